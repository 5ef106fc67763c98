"""Headings, quotation marks and bullets that models write around a question, an answer or a name, by language. Data.

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
# "Answer:", "Lösung:", "答案：": in front of what the question's own author answers. By language: what may stand in
# front of the word so that it still is that heading ("Correct answer", "模範解答"), it, and what may stand behind it
# ("Answer key", "Réponse correcte"). Not any word may: "Answer choices:" and "Your answer:" belong to the question.
_ANSWERS = (
    (
        r"the|correct|right|best|expected|model|sample|suggested|final|official|reference|full|detailed|worked",
        r"answer|ans|solution|response",
        r"key|(?:and|&) explanation",
    ),
    (
        r"die|eine|richtige|korrekte|mögliche|erwartete|vollständige",
        r"(?:muster)?antwort|(?:muster)?lösung",
        r"und erklärung",
    ),
    (r"het|juiste|correcte|goede", r"antwoord|oplossing", r"en uitleg"),
    (
        r"la|une|bonne|vraie",
        r"réponse|corrigé|solution",
        r"correcte|exacte|juste|attendue|type|modèle|détaillée?|et explication",
    ),
    (r"la|mejor", r"respuesta|solución", r"correcta|esperada|modelo|sugerida|y explicación"),
    (r"a|melhor", r"resposta|solução|gabarito", r"correta|certa|esperada|modelo|sugerida|e explicação"),
    (r"la|migliore", r"risposta|soluzione", r"corretta|esatta|giusta|modello|attesa|e spiegazione"),
    (r"poprawna|prawidłowa|właściwa|przykładowa", r"odpowiedź|rozwiązanie", r"i wyjaśnienie|wzorcow[ae]"),
    (r"správná|vzorová|správné", r"odpověď|řešení", r"a vysvětlení"),
    (
        r"правильный|верный|эталонный|примерный|правильное|верное|ожидаемый",
        r"ответ|решение",
        r"и (?:объяснение|пояснение|решение)",
    ),
    (r"правильна|вірна|правильне|очікувана", r"відповідь|розв'язок|розв’язок|розв’язання|розв'язання", r"та пояснення"),
    (r"η|σωστή|ορθή|ενδεικτική", r"απάντηση|λύση", r"και εξήγηση"),
    (r"doğru|örnek|beklenen", r"cevap|yanıt|çözüm", r"anahtarı|ve açıklama"),
    (r"gợi ý", r"đáp án|(?:câu )?trả lời|lời giải", r"đúng|chính xác|tham khảo|mẫu|chi tiết|và giải thích"),
    (r"kunci", r"jawaban|penyelesaian", r"(?:yang )?(?:benar|tepat)|dan penjelasan"),
    (r"نموذج", r"الإجابة|الاجابة|إجابة|الجواب|جواب|الحل", r"الصحيحة|الصحيح|النموذجية|النموذجي|المتوقعة"),
    (r"کلید", r"پاسخ", r"صحیح|درست|نمونه"),
    (r"ה", r"תשובה|התשובה|פתרון|הפתרון", r"הנכונה|נכונה|לדוגמה|מלא"),
    (r"सही|आदर्श|मानक|अपेक्षित", r"उत्तर|जवाब|हल", r"कुंजी|और व्याख्या"),
    (r"แนว", r"คำตอบ|เฉลย", r"ที่(?:ถูกต้อง|ถูก|ดีที่สุด|คาดหวัง)"),
    (
        r"正[确確]的?|标准|標準|参考|參考|最佳|示例|本题|本題",
        r"答案|解答|答|回答|解|解析",
        r"[与與和及]?(?:解析|详解|詳解|解释|解釋)",
    ),
    (r"模範|正しい|想定される|想定", r"解答|答え|回答|正解|解説|答", r"例|[とおよび]{1,3}解説"),
    (r"모범|올바른|예시", r"정답|답변|답안|답|해답|풀이|해설", r"및 (?:해설|풀이|설명)"),
)
ANSWER = "|".join(f"(?:(?:{before}) ?){{0,2}}(?:{word})(?: ?(?:{behind})){{0,2}}" for before, word, behind in _ANSWERS)
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
BULLET = r"[-–*+](?=\s)|-(?=\w)|[•·・●○■◆▪]+"
# In front of an entry of a numbered list: "1.", "(1)", "**1**)", "1\\.", "1 - ", "①", "一、".
NUMBER = (
    r"[(（]?(?P<number>\d{1,3})[*_]*(?:\\?[.):、．）。：]|\s?[-–](?=\s))"
    r"|[①-⑳]|[一二三四五六七八九十]{1,3}[、.．]"
)
# What ends a line and is no part of a name.
END_MARKS = " \t*_`\"'“”„«»‘’「」『』《》.,;:。、，；：．।؟،؛"
