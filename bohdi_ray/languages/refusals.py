"""How models decline, by language. Pure data and one function; called by the gates.

A language is known by one pattern for a text's beginning, how one says sorry and that one cannot help, and one for what
makes such a beginning an answer all the same ("but here is"). A language that is not in the table is not recognised:
its refusals go to the judge like any answer. English has finer patterns, in engines/quality.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Declining:
    """One language, as patterns without case. `alone` is what makes a refusal without `sorry`: by default `cannot`;
    None where that phrase may begin any sentence."""

    sorry: str  # what stands before it, or what the writer says it is: a machine
    cannot: str
    goes_on: str  # what makes it an answer
    alone: str | None = ""


# Between a language's words: at most so much, within one sentence.
_GAP = r"[^.!?。！？\n]{0,60}?"
_SHORT = r"[^.!?。！？\n]{0,24}?"

LANGUAGES: dict[str, Declining] = {
    "Arabic": Declining(
        r"عذرا|آسف|أعتذر|للأسف|نأسف|معذرة|المعذرة|أنا آسف|كنموذج|بصفتي|باعتباري",
        rf"(?:لا أستطيع|لا يمكنني|لن أتمكن من|لست قادرا على|لا أقدر على){_SHORT}"
        r"(?:مساعد|المساعدة|الإجابة|تقديم|توفير|الرد|كتابة|إنشاء|تلبية|تنفيذ)",
        r"(?:ولكن|لكن|إليك)\s(?:إليك|يمكنني|هنا|بشكل عام)|إليك",
    ),
    "Chinese": Declining(
        r"(?:我)?(?:很|非常|十分|真的|實在|实在)?(?:抱歉|对不起|對不起|遗憾|遺憾|不好意思)",
        r"(?:作为|作為|我是)?(?:一个|一個|一名)?(?:AI|人工智能|人工智慧|大?型?语言模型|"
        r"大?型?語言模型)?[^。！？\n]{0,12}?"
        r"(?:无法|無法|不能|没办法|沒辦法|不便|没有能力|不可以|无权)(?:为您|为你|為您|為你|给您|给你|对此|直接|就此)?"
        r"(?:提供|回答|协助|協助|帮助|幫助|帮您|帮你|满足|滿足|完成|处理|處理|生成|撰写|撰寫|创建|讨论|討論|"
        r"回应|回應|执行|做到)",
        r"(?:但|但是|不过|不過|然而)[，,]?\s?(?:我可以|这里|這裡|以下|下面|一般)|以下是|下面是",
        r"我(?:无法|無法|不能|没办法|沒辦法)(?:为您|为你|給您|给您|给你|对此)?(?:提供|回答|协助|協助|帮助|"
        r"幫助|帮您|帮你|满足|滿足|生成|撰写|讨论|討論|回应)"
        r"|(?:作为|作為|我是)(?:一个|一個|一名)?(?:AI|人工智能|人工智慧|大?型?语言模型|"
        r"大?型?語言模型)[^。！？\n]{0,30}?(?:无法|無法|不能|没有|沒有)",
    ),
    "Dutch": Declining(
        r"het spijt me|sorry|helaas|mijn excuses|excuseer|als (?:ai|taalmodel|een ai|een taalmodel)[^,.]{0,40}",
        rf"(?:ik kan|kan ik|ik ben niet in staat){_GAP}(?:helpen|beantwoorden|assisteren|bieden|geven|"
        rf"schrijven|voldoen|maken)\b",
        r"maar (?:hier|ik kan|over het algemeen|in het algemeen)|hier (?:is|zijn)|daarom",
        rf"(?:ik kan|kan ik){_GAP}\b(?:niet|geen)\b{_GAP}(?:helpen|beantwoorden|assisteren|bieden|geven|"
        rf"schrijven|voldoen)\b",
    ),
    "French": Declining(
        r"(?:je suis )?(?:vraiment |sincèrement )?désolée?|malheureusement|je regrette|je m'excuse|"
        r"excusez-moi|pardon|en tant qu(?:'|e )(?:ia|une? (?:ia|intelligence|modèle|assistant)|assistant|"
        r"modèle|intelligence)[^,.]{0,40}",
        rf"je ne (?:peux|puis|suis|pourrai){_SHORT}(?:pas )?(?:en mesure de |capable de )?(?:vous |te |t'|y )?"
        r"(?:aider|assister|répondre|fournir|générer|créer|écrire|donner|accéder|satisfaire|discuter|rédiger)",
        r"mais (?:voici|je peux|en général|de manière générale)|voici|c'est pourquoi",
    ),
    "German": Declining(
        r"(?:es )?tut mir (?:sehr |wirklich )?leid|leider|entschuldigung|entschuldigen sie|verzeihung|"
        r"ich bedauere?|als (?:ki|künstliche intelligenz|sprachmodell|ein (?:ki|sprachmodell)|"
        r"eine ki)[^,.]{0,40}",
        rf"(?:(?:ich kann|kann ich|darf ich|ich darf){_GAP}(?:nicht|keine?n?) {_GAP}(?:helfen|beantworten|"
        rf"weiterhelfen|"
        r"unterstützen|erstellen|bereitstellen|schreiben|erfüllen|geben|bearbeiten|antworten|nachkommen|ausführen)"
        rf"|ich bin nicht in der lage,?{_GAP}zu (?:helfen|beantworten|erstellen|schreiben|geben))",
        r"(?:aber|jedoch|dennoch|trotzdem),? (?:hier|ich kann|im allgemeinen|grundsätzlich|allgemein)|"
        r"hier (?:ist|sind)|deshalb",
    ),
    "Greek": Declining(
        r"λυπάμαι|συγγνώμη|με συγχωρείτε|δυστυχώς|ζητώ συγγνώμη|ως (?:γλωσσικό|τεχνητή|μοντέλο)[^,.]{0,40}",
        rf"δεν (?:μπορώ|είμαι σε θέση|δύναμαι){_SHORT}(?:βοηθήσω|απαντήσω|παρέχω|δώσω|γράψω|δημιουργήσω|εκπληρώσω)",
        r"(?:αλλά|όμως|ωστόσο) (?:εδώ|μπορώ|γενικά)|ορίστε",
    ),
    "Hebrew": Declining(
        r"(?:אני )?מצטערת?|סליחה|לצערי|אני מתנצלת?|מתנצלת?|כמודל שפה|כבינה מלאכותית",
        rf"(?:(?:אני )?לא יכולה?|איני יכולה?|אינני יכולה?|לא אוכל){_SHORT}(?:לעזור|לסייע|לענות|לספק|להשיב|"
        rf"לכתוב|ליצור)",
        r"אבל (?:הנה|אני יכול|באופן כללי)|הנה",
    ),
    "Hindi": Declining(
        r"माफ़ करें|माफ करें|क्षमा करें|क्षमा कीजिए|मुझे खेद है|खेद है|मुझे माफ़ करें|मुझे अफ़सोस है|"
        r"दुर्भाग्य से|एक (?:ai|एआई|भाषा मॉडल)[^,.।]{0,30}",
        rf"मैं{_GAP}(?:मदद|सहायता|उत्तर|जवाब|प्रदान|पूरा|लिख|बना|जानकारी){_SHORT}(?:नहीं कर सकत|नहीं दे सकत|"
        rf"नहीं सकत|असमर्थ"
        r"|करने में सक्षम नहीं|नहीं कर पा|नहीं दे पा)",
        r"(?:लेकिन|परंतु|परन्तु|हालांकि) (?:यहाँ|यहां|मैं|आम तौर)|यहाँ",
        r"मैं (?:इस|आपकी|इसमें|यह)[^।.!?\n]{0,40}?(?:मदद|सहायता|उत्तर|जवाब)[^।.!?\n]{0,12}?(?:नहीं कर सकत|"
        r"नहीं दे सकत)",
    ),
    "Indonesian": Declining(
        r"(?:saya )?(?:mohon )?(?:minta )?maaf|sayangnya|sebagai (?:model|ai|kecerdasan|asisten)[^,.]{0,40}",
        rf"saya tidak (?:dapat|bisa|mampu){_SHORT}(?:membantu|menjawab|memberikan|menyediakan|membuat|menulis|"
        rf"memenuhi)",
        r"(?:tetapi|tapi|namun) (?:berikut|saya (?:dapat|bisa)|secara umum)|berikut",
    ),
    "Italian": Declining(
        r"mi dispiace|spiacente|purtroppo|mi scuso|chiedo scusa|scus[ai]|(?:come|in quanto) (?:modello|ia|"
        r"intelligenza|assistente|un modello)[^,.]{0,40}",
        r"non (?:posso|sono in grado di|mi è possibile) (?:di )?(?:aiutar\w*|assister\w*|rispondere|fornir\w*|"
        r"generare|"
        r"creare|scrivere|dar\w*|soddisfare|esaudire)",
        r"(?:ma|però|tuttavia) (?:ecco|posso|in generale)|ecco|per questo",
    ),
    "Japanese": Declining(
        r"(?:大変|誠に)?申し訳(?:ありません|ございません|ないです|ない)|すみません|すいません|ごめんなさい|"
        r"恐れ入ります|残念(?:ながら|ですが)|(?:私は)?(?:ai|人工知能|言語モデル)[^。、]{0,16}(?:として|なので|"
        r"であるため|ですので)",
        r"[^。！？\n]{0,60}?(?:手伝い|お答え|答え|回答|対応|提供|お応え|支援|作成|生成|協力|お話し)[^。！？\n]{0,14}?"
        r"(?:できません|できかねます|いたしかねます|致しかねます|しかねます|できない|できませんでした)",
        r"(?:しかし|ただし|ですが|ただ)、?(?:以下|一般|ここ)|以下(?:に|は|の)|代わりに",
        None,
    ),
    "Korean": Declining(
        r"(?:정말 )?죄송합니다|죄송하지만|죄송해요|미안합니다|미안하지만|유감스럽게도|유감입니다|안타깝게도|"
        r"아쉽게도|(?:저는 )?(?:ai|인공지능|언어 모델)[^.,]{0,20}",
        r"[^.!?\n]{0,60}?(?:도와|도움|답변|대답|제공|응답|수행|작성|생성|지원|알려)[^.!?\n]{0,14}?"
        r"(?:수(?:가|는)? 없(?:습니다|어요|네요|음)|못합니다|어렵습니다|불가능합니다)",
        r"(?:하지만|그러나|다만|그렇지만) (?:다음|일반적|여기|제가)|다음은|대신",
        None,
    ),
    "Polish": Declining(
        r"przepraszam|przykro mi|niestety|wybacz|jako (?:model|ai|sztuczna|asystent)[^,.]{0,40}",
        rf"nie (?:mogę|jestem w stanie|potrafię){_SHORT}(?:pomóc|odpowiedzieć|dostarczyć|udzielić|napisać|"
        rf"stworzyć|spełnić)",
        r"ale (?:oto|mogę|ogólnie|zasadniczo)|oto|dlatego",
    ),
    "Portuguese": Declining(
        r"desculpe?|me desculpe|sinto muito|lamento|infelizmente|peço desculpas?|perdão|"
        r"como (?:um )?(?:modelo|ia|inteligência|assistente)[^,.]{0,40}",
        r"(?:eu )?não (?:posso|consigo|sou capaz de|estou apt[oa] a) (?:te |o |a |lhe )?(?:ajud\w+|auxiliar|"
        r"respond\w+|"
        r"fornecer|gerar|criar|escrever|dar|atender|cumprir|discutir|oferecer)",
        r"mas (?:aqui|posso|em geral|de modo geral)|aqui (?:está|estão)|por isso",
    ),
    "Russian": Declining(
        r"извините|простите|прошу прощения|к сожалению|мне (?:очень )?жаль|сожалею|приношу извинения|прости|"
        r"извини|(?:я )?как (?:языковая модель|ии|искусственный|нейросеть|большая)[^.]{0,40}",
        rf"(?:я )?не (?:могу|смогу|в состоянии|в силах){_SHORT}(?:помочь|ответить|предоставить|выполнить|"
        rf"написать|создать|"
        r"обсуждать|дать|сгенерировать|удовлетворить)",
        r"(?:но|однако) (?:вот|я могу|в общем|в целом)|вот|поэтому",
    ),
    "Spanish": Declining(
        r"lo siento(?: mucho)?|lo lamento|lamentablemente|desafortunadamente|disculp[ae]|perdón|perdona|"
        r"me temo que|como (?:un )?(?:modelo|ia|inteligencia|asistente)[^,.]{0,40}",
        r"(?:yo )?no (?:puedo|soy capaz de|estoy en condiciones de|me es posible) (?:te |le )?(?:ayud\w+|"
        r"asist\w+|respond\w+|"
        r"proporcion\w+|generar|crear|escribir|dar\w*|cumplir|ofrecer\w*|discutir|brindar\w*)",
        r"pero (?:aquí|puedo|en general|por lo general)|aquí (?:está|tienes?|tiene)|por eso",
    ),
    "Thai": Declining(
        r"(?:ต้อง)?(?:ขออภัย|ขอโทษ|เสียใจ)(?:ด้วย|อย่างยิ่ง)?(?:นะ)?(?:ครับ|ค่ะ|คะ)?|ในฐานะ[^.\s]{0,30}",
        r"[^.!?\n]{0,30}?(?:ไม่สามารถ|ไม่อาจ)[^.!?\n]{0,12}?(?:ช่วย|ตอบ|ให้|เขียน|สร้าง|ดำเนินการ|ทำ)",
        r"แต่(?:นี่|ผม|ฉัน|โดยทั่วไป|สามารถ)|ต่อไปนี้",
        r"(?:ผม|ฉัน|ดิฉัน)ไม่สามารถ(?:ช่วย|ตอบ|ให้ข้อมูล|เขียน|สร้าง)",
    ),
    "Turkish": Declining(
        r"üzgünüm|özür dilerim|maalesef|ne yazık ki|kusura bakma(?:yın)?|afedersiniz|bir (?:yapay zeka|"
        r"dil modeli)[^,.]{0,40}",
        rf"{_GAP}(?:yardımcı olamam|yardımcı olamıyorum|yardım edemem|cevap veremem|cevaplayamam|yanıt veremem|"
        r"yanıtlayamam|sağlayamam|yapamam|yazamam|oluşturamam|veremem|yerine getiremem)",
        r"(?:ama|ancak|fakat) (?:işte|genel|size)|işte",
        r"(?:bu konuda |buna |size )?(?:yardımcı olamam|yardımcı olamıyorum|yardım edemem|cevap veremem|"
        r"yanıt veremem)",
    ),
    "Ukrainian": Declining(
        r"вибачте|перепрошую|на жаль|мені (?:дуже )?шкода|пробачте|прошу вибачення|як (?:мовна модель|ші|"
        r"штучний)[^.]{0,40}",
        rf"(?:я )?не (?:можу|зможу|в змозі){_SHORT}(?:допомогти|відповісти|надати|виконати|написати|створити|дати)",
        r"(?:але|однак|проте) (?:ось|я можу|загалом)|ось|тому",
    ),
    "Vietnamese": Declining(
        r"(?:tôi )?(?:rất |thành thật )?(?:xin lỗi|tiếc)|rất tiếc|đáng tiếc|là (?:một )?(?:mô hình|ai|"
        r"trí tuệ)[^,.]{0,40}",
        rf"tôi (?:không thể|không có khả năng|chưa thể){_SHORT}(?:giúp|trả lời|cung cấp|hỗ trợ|thực hiện|viết|"
        rf"tạo|đáp ứng)",
        r"(?:nhưng|tuy nhiên),? (?:đây|tôi có thể|nhìn chung|nói chung)|sau đây|dưới đây",
    ),
}
_START = r"[\s\"'“„«「*_]*"
_JOIN = r"[\s,.،，。、！!:;…\-–—]*(?:{but})?[\s,，、:]*"
_BUT = (
    "but|aber|doch|mais|pero|mas|ma|maar|ale|но|але|ama|ancak|fakat|nhưng|tetapi|tapi|但是|但|不过|ですが|が|しかし|만|하지만"
    "|ولكن|لكن|אבל|אך|लेकिन|परंतु|แต่|αλλά|que|що|что|dass|că"
)
_PATTERNS = tuple(
    (
        re.compile(
            rf"{_START}(?:(?:{one.sorry}){_JOIN.format(but=_BUT)}{_GAP}(?:{one.cannot})"
            + ("" if one.alone is None else f"|{one.alone or one.cannot}")
            + ")",
            re.I,
        ),
        re.compile(one.goes_on, re.I),
    )
    for one in LANGUAGES.values()
)


def declined_by(start: str) -> tuple[int, re.Pattern[str]] | None:
    """Where the declining phrase at the beginning of a text ends, and the pattern of what would make it an answer; None
    if it declines in no language of the table. `start` is the text's beginning, composed, without Arabic points."""
    for pattern, goes_on in _PATTERNS:
        if (found := pattern.match(start)) is not None:
            return found.end(), goes_on
    return None
