"""Loops, refusals and what stands around a question are recognised in scripts of every kind."""

import time

import pytest
from sentences import ARTICLE_1, QUESTIONS

from bohdi_ray.engines.prompts import parse_name, parse_question
from bohdi_ray.engines.quality import answer_problem, is_refusal, is_repetitive, question_problem, repeated_share
from bohdi_ray.examples.duplicates import near_duplicate_rate

LEAF = ("Science",)
ESSAYS = {
    # Ordinary prose of some length, each sentence its own.
    "Chinese": "光在空气分子上发生散射，短波的散射远强于长波。"
    "因此蓝光从天空的各个方向来到我们眼中，而红光大多直线传播。"
    "日落时分，阳光穿过大气的路程很长，蓝光几乎全部散失，太阳看上去便是红色的。火星上的情况恰好相反，"
    "那里的尘埃颗粒较大，白天的天空呈黄褐色，而日落时太阳周围反而泛着蓝光。",
    "Japanese": "光は空気の分子によって散乱される。波長の短い光は長い光よりもはるかに強く散乱されるため、青い光は空の"
    "あらゆる方向から届く。夕方には大気を通る道のりが長くなり、青い光はほとんど失われて、"
    "太陽は赤く見える。火星では塵の粒が"
    "大きいので、昼の空は黄褐色に、日没の空は青みがかって見える。",
    "Thai": "แสงกระเจิงจากโมเลกุลของอากาศ คลื่นสั้นกระเจิงมากกว่าคลื่นยาวหลายเท่า "
    "แสงสีน้ำเงินจึงมาถึงเราจากทุกทิศทางของท้องฟ้า "
    "ขณะที่แสงสีแดงเดินทางเป็นเส้นตรงเป็นส่วนใหญ่ ยามเย็นแสงต้องผ่านบรรยากาศเป็นระยะทางไกล สีน้ำเงินแทบไม่เหลือ "
    "ดวงอาทิตย์จึงดูเป็นสีแดง ส่วนบนดาวอังคารฝุ่นมีขนาดใหญ่กว่า ท้องฟ้ากลางวันจึงออกสีน้ำตาล",
    "Hindi": "प्रकाश हवा के अणुओं से प्रकीर्णित होता है। छोटी तरंगें लंबी तरंगों की तुलना में बहुत "
    "अधिक प्रकीर्णित होती हैं, इसलिए "
    "नीला प्रकाश आकाश की हर दिशा से आता है, जबकि लाल प्रकाश सीधे आगे बढ़ता है। सूर्यास्त के समय "
    "वायुमंडल में मार्ग इतना लंबा होता "
    "है कि नीला प्रकाश लगभग बचता ही नहीं और सूर्य लाल दिखता है। मंगल ग्रह पर धूल के कण बड़े हैं, "
    "इसलिए वहाँ दिन का आकाश भूरा रहता है।",
}


@pytest.mark.parametrize("language", ESSAYS)
def test_prose_is_no_loop_and_a_loop_of_it_is(language):
    text = ESSAYS[language]
    assert answer_problem(text, "stop", 30) is None and repeated_share(text) < 0.1
    assert is_repetitive(text * 4)
    sentence = text.split("。")[0] if "。" in text else text[:45]
    assert is_repetitive(text + (sentence + "。") * 8)


@pytest.mark.parametrize("language", ARTICLE_1)
def test_one_sentence_is_never_a_loop_and_many_of_it_always_are(language):
    text = ARTICLE_1[language]
    assert not is_repetitive(text)
    assert is_repetitive(f"{text} " * 6)


def test_a_chinese_loop_of_little_text_at_the_end_is_seen():
    assert is_repetitive(ESSAYS["Chinese"] + "我不知道。" * 14)


REFUSALS = {
    "German": [
        "Es tut mir leid, aber ich kann Ihnen dabei nicht helfen.",
        "Ich kann diese Anfrage leider nicht beantworten.",
        "Als KI-Sprachmodell kann ich keine persönlichen Ratschläge geben.",
        "Als KI habe ich keinen Zugriff auf diese Daten.",
        "Als KI-Modell kann ich dazu leider nichts sagen.",
        "Entschuldigung, ich kann Ihnen dabei nicht behilflich sein.",
        "Das kann ich leider nicht beantworten.",
    ],
    "French": [
        "Je suis désolé, mais je ne peux pas vous aider.",
        "Désolée, je ne peux pas répondre à cette question.",
        "En tant qu'IA, je ne peux pas fournir de conseils médicaux.",
        "Désolé, je ne peux pas traiter cette demande.",
        "Il m'est impossible de répondre à cette question.",
    ],
    "Spanish": [
        "Lo siento, pero no puedo ayudarte con eso.",
        "Lo siento, no puedo responder a esa pregunta.",
        "Como modelo de lenguaje, no puedo proporcionar esa información.",
        "Lo siento, no tengo acceso a esa información.",
        "Lo siento, pero no puedo continuar con esta conversación.",
    ],
    "Portuguese": [
        "Desculpe, mas não posso ajudar com isso.",
        "Sinto muito, não posso responder a essa pergunta.",
        "Desculpe, não consigo processar esse pedido.",
    ],
    "Italian": [
        "Mi dispiace, ma non posso aiutarti.",
        "Purtroppo non posso rispondere a questa domanda.",
        "Mi spiace, ma non posso procedere con questa richiesta.",
    ],
    "Dutch": ["Het spijt me, maar ik kan je daar niet mee helpen.", "Sorry, ik kan deze vraag niet beantwoorden."],
    "Polish": [
        "Przepraszam, ale nie mogę w tym pomóc.",
        "Niestety nie mogę odpowiedzieć na to pytanie.",
        "Przepraszam, nie mogę tego zrobić.",
    ],
    "Russian": [
        "Извините, но я не могу помочь с этим.",
        "К сожалению, я не могу ответить на этот вопрос.",
        "Как языковая модель, я не могу давать медицинские советы.",
        "Извините, но я не могу продолжить этот разговор.",
        "Здравствуйте! К сожалению, я не могу помочь с этим.",
    ],
    "Ukrainian": ["Вибачте, але я не можу допомогти з цим.", "На жаль, я не можу відповісти на це запитання."],
    "Greek": ["Λυπάμαι, αλλά δεν μπορώ να βοηθήσω με αυτό."],
    "Turkish": [
        "Üzgünüm, ancak bu konuda yardımcı olamam.",
        "Maalesef bu soruya cevap veremem.",
        "Üzgünüm, bu görevi üstlenemem.",
        "Bu isteği yerine getiremem.",
    ],
    "Vietnamese": [
        "Xin lỗi, nhưng tôi không thể giúp bạn việc này.",
        "Tôi rất tiếc, tôi không thể trả lời câu hỏi này.",
        "Xin lỗi, mình không thể làm theo yêu cầu này.",
    ],
    "Indonesian": [
        "Maaf, saya tidak dapat membantu dengan hal itu.",
        "Maaf, tapi saya tidak bisa menjawab pertanyaan ini.",
        "Maaf, aku tidak bisa melanjutkan percakapan ini.",
    ],
    "Arabic": ["عذراً، لا أستطيع مساعدتك في ذلك.", "آسف، لكن لا يمكنني الإجابة على هذا السؤال."],
    "Hebrew": ["מצטער, אבל אני לא יכול לעזור בזה.", "לצערי איני יכולה לענות על השאלה הזאת."],
    "Hindi": [
        "माफ़ करें, मैं इसमें आपकी मदद नहीं कर सकता।",
        "मुझे खेद है, लेकिन मैं इस प्रश्न का उत्तर नहीं दे सकता।",
        "माफ़ कीजिए, मैं इसमें मदद नहीं कर सकता।",
        "माफ कीजिये, मैं यह नहीं बता सकती।",
        "सॉरी, मैं इसमें मदद नहीं कर सकता।",
        "एक एआई के रूप में, मैं चिकित्सा सलाह नहीं दे सकता।",
        "मैं इस अनुरोध को पूरा नहीं कर सकता।",
    ],
    "Thai": [
        "ขออภัยครับ ผมไม่สามารถช่วยเรื่องนี้ได้",
        "ขอโทษค่ะ ไม่สามารถตอบคำถามนี้ได้",
        "ขอโทษครับ ผมช่วยเรื่องนี้ไม่ได้",
        "สวัสดีค่ะ ขออภัยค่ะ ดิฉันไม่สามารถพูดคุยเรื่องนี้ได้",
    ],
    "Chinese": [
        "很抱歉，我无法回答这个问题。",
        "对不起，我不能提供这方面的帮助。",
        "作为一个人工智能语言模型，我无法提供医疗建议。",
        "我无法协助您完成此请求。",
        "您好，我无法给到相关内容。",
        "你好，这个问题我暂时无法回答，让我们换个话题再聊聊吧。",
        "对不起，我还没有学会如何回答这个问题。",
        "抱歉，我无法就此话题发表意见。",
        "抱歉，我沒有辦法幫您。",
    ],
    "Japanese": [
        "申し訳ありませんが、そのご質問にはお答えできません。",
        "すみませんが、お手伝いできません。",
        "申し訳ありませんが、その要求に応じることはできません。",
        "すみませんが、その質問には答えられません。",
        "申し訳ありませんが、お力になれません。",
        "その質問にはお答えできません。",
    ],
    "Korean": [
        "죄송하지만, 그 요청에는 도움을 드릴 수 없습니다.",
        "죄송합니다. 이 질문에는 답변할 수 없습니다.",
        "죄송하지만 그 요청을 들어드릴 수 없습니다.",
        "죄송합니다. 해당 요청에 응할 수 없습니다.",
        "안녕하세요. 그 부분은 도와드릴 수 없습니다.",
    ],
}
NO_REFUSALS = {
    "German": [
        "Leider ist die Lösung nicht eindeutig: die Gleichung hat zwei Nullstellen.",
        "Es tut mir leid, aber ich kann das nicht genau beantworten, aber hier ist eine Schätzung: etwa 40.000.",
        "Leider kann man die Gleichung nicht geschlossen lösen.",
        "Als KI-Forscher beginnt man mit den Daten und prüft sie zuerst.",
        "Leider kann ich Ihnen keinen kürzeren Beweis zeigen als diesen. Man nehme an, es gäbe nur "
        "endlich viele Primzahlen, und bilde ihr Produkt plus eins: Keine von ihnen teilt es, also gibt es noch eine, "
        "im Widerspruch zur Annahme.",
    ],
    "French": [
        "Malheureusement, l'intégrale n'a pas de forme close.",
        "Je ne peux pas m'empêcher d'admirer Newton.",
        "Désolé, mais je ne suis pas d'accord : la série diverge.",
    ],
    "Spanish": ["Lo siento por tu planta. Riégala menos y ponla a la sombra."],
    "Russian": ["К сожалению, интеграл не выражается в элементарных функциях."],
    "Arabic": ["للأسف لا يوجد حل مغلق لهذا التكامل."],
    "Chinese": [
        "经典力学无法回答这个问题，而量子力学给出了答案。",
        "很遗憾，这个积分没有初等函数形式的解。",
        "很遗憾，这个积分不能用初等函数表示。",
        "你好，世界！这是一个简单的程序，它会输出一行文字。",
        "抱歉，上面的计算有一个错误：正确的结果是三。",
    ],
    "Japanese": [
        "この現象は古典物理学では説明できません。",
        "残念ながら、この積分は初等関数では表せません。",
        "残念ながら、この積分は初等関数では表すことができません。",
        "残念ながら、この方程式の厳密な答えは得られません。",
    ],
    "Korean": [
        "고전 역학으로는 이 질문에 답변할 수 없습니다. 양자 역학이 필요합니다.",
        "안타깝게도 이 적분은 초등함수로 나타낼 수 없습니다.",
    ],
    "Hindi": ["दुर्भाग्य से इस समाकल का कोई बंद रूप नहीं है।", "दुर्भाग्य से यह समीकरण हल नहीं किया जा सकता।"],
}


@pytest.mark.parametrize("text", [text for texts in REFUSALS.values() for text in texts])
def test_refusals_are_recognised_in_many_languages(text):
    assert is_refusal(text)


@pytest.mark.parametrize("text", [text for texts in NO_REFUSALS.values() for text in texts])
def test_answers_that_only_sound_like_refusals_pass_in_many_languages(text):
    assert not is_refusal(text)


@pytest.mark.parametrize(
    "question",
    [
        "我无法帮助我的孩子学好数学，他总是记不住公式，您觉得应该从哪里开始呢？",
        "申し訳ありませんが、うまく回答を作成できません。どうすればよいですか？",
        "عذرا، لا أستطيع كتابة خاتمة جيدة لقصتي، فكيف تكتبها أنت؟",
        "Λυπάμαι, δεν μπορώ να γράψω ένα καλό τέλος για την ιστορία μου· πώς θα το έγραφες εσύ;",
    ],
)
def test_a_person_who_asks_for_help_is_no_refusal_whatever_the_question_mark(question):
    assert answer_problem(question, "stop", 30) == "refusal"
    assert question_problem(question, "stop", 30) is None


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("问题：为什么天空是蓝色的？", "为什么天空是蓝色的？"),
        ("**问题1：** 为什么天空是蓝色的？\n\n答案：因为散射。", "为什么天空是蓝色的？"),
        ("【题目】：光是什么？\n【解答】：是波。", "光是什么？"),
        ("質問：「なぜ空は青いのですか。」", "なぜ空は青いのですか。"),
        ("문제: 하늘은 왜 파란가요?\n정답: 산란 때문입니다.", "하늘은 왜 파란가요?"),
        ("Frage 3: „Warum ist der Himmel blau?“\n\nAntwort: Streuung.", "Warum ist der Himmel blau?"),
        ("Question : « Pourquoi le ciel est-il bleu ? »", "Pourquoi le ciel est-il bleu ?"),
        ("Pregunta: ¿Por qué el cielo es azul?\nRespuesta: Por la dispersión.", "¿Por qué el cielo es azul?"),
        ("Вопрос: Почему небо голубое?\nОтвет: рассеяние.", "Почему небо голубое?"),
        ("السؤال: لماذا السماء زرقاء؟\nالإجابة: التشتت.", "لماذا السماء زرقاء؟"),
        ("प्रश्न: आकाश नीला क्यों है?\nउत्तर: प्रकीर्णन।", "आकाश नीला क्यों है?"),
        ("คำถาม: ทำไมท้องฟ้าเป็นสีฟ้า\nคำตอบ: การกระเจิง", "ทำไมท้องฟ้าเป็นสีฟ้า"),
        ("Câu hỏi: Vì sao bầu trời xanh?\nĐáp án: Tán xạ.", "Vì sao bầu trời xanh?"),
        ("问题很多：为什么天空是蓝色的？", "问题很多：为什么天空是蓝色的？"),
        ("【题目】光是什么？\n【解答】是波。", "光是什么？"),
        ("[문제 2] 빛은 무엇인가요?\n[정답] B", "빛은 무엇인가요?"),
        ("下列哪项？\nA. 甲\nB. 乙\n【答案】B\n【解析】因为", "下列哪项？\nA. 甲\nB. 乙"),
        ("下列哪项？\n答案选项：A、B", "下列哪项？\n答案选项：A、B"),
        ("为什么？\n答案不唯一时怎么办？", "为什么？\n答案不唯一时怎么办？"),
    ],
)
def test_a_question_is_freed_of_headings_and_quotes_in_many_languages(text, question):
    assert parse_question(text) == question


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("1、量子力学", "量子力学"),
        ("2．「光学」", "光学"),
        ("① 光学。", "光学"),
        ("主题：光学", "光学"),
        ("・ 量子力学", "量子力学"),
        ("1. **Квантовая механика**;", "Квантовая механика"),
        ("3. „Optik“", "Optik"),
        ("4. الفيزياء،", "الفيزياء"),
        ("1. भौतिकी।", "भौतिकी"),
    ],
)
def test_a_name_is_freed_of_bullets_and_marks_in_many_languages(text, name):
    assert parse_name(text) == name


@pytest.mark.parametrize("language", QUESTIONS)
def test_near_repeats_are_counted_in_every_language(language):
    question = QUESTIONS[language]
    different = [text for other, text in QUESTIONS.items() if other != language]
    assert near_duplicate_rate({LEAF: [question, *different]}) == 0
    assert near_duplicate_rate({LEAF: [question, f"  {question}!! "]}) == 0.5


def test_parts_of_a_chinese_question_in_another_order_are_a_near_repeat():
    one, other = "白天的天空为什么是蓝色，傍晚为什么是红色？", "傍晚为什么是红色，白天的天空为什么是蓝色？"
    assert near_duplicate_rate({LEAF: [one, other]}) == 0.5
    assert near_duplicate_rate({LEAF: [one, "如何用两面镜子让一盏灯形成第三个像？"]}) == 0


@pytest.mark.parametrize(
    "text", ["ไม่สามารถช่วย" * 20_000, "我无法" * 90_000, "कि" * 100_000, "申し訳ありません、" * 30_000]
)
def test_long_texts_of_other_scripts_are_judged_in_time(text):
    began = time.process_time()
    answer_problem(text, "stop", 30)
    parse_question(text)
    assert time.process_time() - began < 15


OWN_ANSWERS = [
    *(
        "正确答案：B",
        "**正确答案：B**",
        "标准答案：是波",
        "標準答案：是波",
        "参考答案：是波",
        "答案解析：B",
        "解析：是波",
    ),
    *("(答案：B)", "（答案：B）", "【答案】B", "【解答】波", "【正解】B", "模範解答：波", "【答え】\n波", "[정답] B"),
    *("【정답】 B", "(정답: B)", "모범 답안: B", "정답 및 해설: B", "Richtige Antwort: B", "Musterlösung: B"),
    *("## Lösung\n\nB", "Réponse correcte : B", "Bonne réponse : B", "**Réponse**\nB", "Respuesta correcta: B"),
    *("Resposta correta: B", "Risposta corretta: B", "Juiste antwoord: B", "Правильный ответ: B", "Верный ответ: B"),
    *("### Ответ\nB", "Правильна відповідь: B", "Poprawna odpowiedź: B", "Prawidłowa odpowiedź: B"),
    *("Σωστή απάντηση: B", "Doğru cevap: B", "Cevap anahtarı: B", "Đáp án đúng: B", "Jawaban yang benar: B"),
    *("الإجابة الصحيحة: B", "الجواب الصحيح: ب", "پاسخ صحیح: ب", "תשובה נכונה: B", "सही उत्तर: B", "คำตอบที่ถูกต้อง: B"),
]


@pytest.mark.parametrize("own", OWN_ANSWERS)
def test_the_authors_own_answer_goes_under_whatever_heading(own):
    assert parse_question(f"?: 1\n\n{own}") == "?: 1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("以下是二十个主题：\n\n1. 物理学\n2. 化学", "物理学"),
        ("当然可以：\n1. 物理学", "物理学"),
        ("二十个主题\n一、物理学", "物理学"),
        ("以下に二十の主題を挙げます：\n1. 物理学", "物理学"),
        ("以下の通りです。\n1. 物理学", "物理学"),
        ("นี่คือหัวข้อยี่สิบหัวข้อ:\n๑. ฟิสิกส์", "ฟิสิกส์"),
        ("Вот двадцать тем:\n1. Физика", "Физика"),
        ("주제 목록:\n1) 물리학", "물리학"),
        ("فيما يلي القائمة:\n1- الفيزياء", "الفيزياء"),
        ("निम्नलिखित विषय हैं:\n१. भौतिकी", "भौतिकी"),
        ("主题列表：\n- 光学\n- 声学", "光学"),
        ("好的：\n光学\n声学", "光学"),
        ("当然可以：", ""),
        ("1. 量子力学：研究微观粒子", "量子力学"),
        ("1. 量子力学（Quantum Mechanics）", "量子力学"),
        ("1. 인공지능(AI)", "인공지능"),
    ],
)
def test_words_around_a_list_of_names_are_no_name_in_any_language(text, name):
    assert parse_name(text) == name
