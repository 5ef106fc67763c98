"""What models write around a question, an answer or a name, by language: headings, quotation marks, bullets. Data.

Called by `engines/prompts.py`. Parts of patterns without case; in front of a colon.
"""

from __future__ import annotations

# "Question 3:", "## Exam question:", "问题：": in front of a question.
QUESTION = (
    r"(?:exam |the )?(?:question|task|problem|prompt)|q"
    r"|(?:prüfungs)?frage|aufgabe|vraag|opgave|exercice|pregunta|pergunta|questão|domanda|quesito|pytanie|"
    r"zadanie|otázka|úloha"
    r"|вопрос|задача|задание|питання|завдання|ερώτηση|άσκηση|soru|problem|câu hỏi|bài toán|pertanyaan|soal"
    r"|السؤال|سؤال|المسألة|پرسش|שאלה|השאלה|प्रश्न|सवाल|คำถาม|โจทย์"
    r"|问题|問題|题目|題目|考题|試題|试题|問|問い|質問|설문|질문|문제|물음"
)
# "Answer:", "Lösung:", "答案：": in front of what the question's own author answers.
ANSWER = (
    r"answer|solution|response|model answer|sample answer"
    r"|(?:muster)?antwort|(?:muster)?lösung|antwoord|oplossing|réponse|corrigé|respuesta|solución|"
    r"resposta|solução|risposta"
    r"|soluzione|odpowiedź|rozwiązanie|odpověď|řešení|ответ|решение|відповідь|розв'язок|розв’язання|"
    r"απάντηση|λύση|cevap"
    r"|yanıt|çözüm|đáp án|trả lời|lời giải|jawaban|penyelesaian|الإجابة|الاجابة|إجابة|الجواب|الحل|پاسخ|"
    r"תשובה|התשובה|פתרון"
    r"|उत्तर|जवाब|हल|คำตอบ|เฉลย|答案|参考答案|參考答案|解答|答|回答|解|答え|正解|解説|정답|답변|답|해답|풀이"
)
# "Name:", "Thema:": in front of a domain's name.
NAME = (
    r"name|domain|topic|answer|thema|bereich|domäne|sujet|domaine|nom|tema|nombre|dominio|domínio|nome|"
    r"argomento|temat|dziedzina"
    r"|тема|название|область|назва|θέμα|konu|chủ đề|lĩnh vực|topik|موضوع|المجال|נושא|תחום|विषय|หัวข้อ|"
    r"主题|主題|名称|名稱|领域|領域"
    r"|トピック|分野|名前|テーマ|주제|분야|이름"
)
QUOTES = (
    *(('"', '"'), ("“", "”"), ("«", "»"), ("'", "'"), ("„", "“"), ("„", "”"), ("”", "”"), ("‘", "’"), ("‚", "‘")),
    *(("»", "«"), ("‹", "›"), ("「", "」"), ("『", "』"), ("《", "》"), ("【", "】"), ("〝", "〞")),
)
BULLET = r"(?:[-*•·・●○■◆#>]+|\d+[.):、．）。]|[①-⑳]|[（(]\d+[）)])"
# What ends a line and is no part of a name.
END_MARKS = " \t*_`\"'“”„«»‘’「」『』《》.,;:。、，；：．।؟،؛"
