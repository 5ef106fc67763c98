"""How models decline, by language. Pure data and one function; used by the gates.

A language has a pattern for the beginning of a refusal (an apology, and that one cannot help) and a pattern for text
that makes it an answer after all ("but here is"). After an apology any "cannot" counts, if the text says little else. A
language that is not in the table is not recognised: its refusals go to the judge like any answer. English has finer
patterns, in engines/quality.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from bohdi_ray.languages.scripts import composed


@dataclass(frozen=True, slots=True)
class Declining:
    """One language, as case-insensitive patterns. `alone` is the phrase that makes a refusal without `sorry`: by
    default `cannot`; None if that phrase may begin any sentence."""

    sorry: str  # what stands before it, or what the writer says it is: a machine
    cannot: str
    goes_on: str  # what makes it an answer
    alone: str | None = ""
    unable: str | None = None  # behind `sorry`, of any verb: that the writer, none else, cannot


class Declined(NamedTuple):
    """A refusal: where its phrase ends, what would make it an answer, and whether its verb is a known one."""

    end: int
    goes_on: re.Pattern[str]
    firmly: bool


# Between a language's words: at most so much, within one sentence.
_GAP = r"[^.!?。！？\n]{0,60}?"
_SHORT = r"[^.!?。！？\n]{0,24}?"

LANGUAGES: dict[str, Declining] = {
    "Arabic": Declining(
        r"عذرا|آسف|أعتذر|للأسف|نأسف|معذرة|المعذرة|أنا آسف|كنموذج|بصفتي|باعتباري",
        rf"(?:لا أستطيع|لا يمكنني|لن أتمكن من|لست قادرا على|لا أقدر على){_SHORT}"
        r"(?:مساعد|المساعدة|الإجابة|تقديم|توفير|الرد|كتابة|إنشاء|تلبية|تنفيذ)",
        r"(?:ولكن|لكن|إليك)\s(?:إليك|يمكنني|هنا|بشكل عام)|إليك",
        unable=r"لا أستطيع|لا يمكنني|لن أتمكن من|لست قادرا على|لا أقدر على|ليس لدي",
    ),
    "Chinese": Declining(
        r"(?:我)?(?:很|非常|十分|真的|實在|实在)?(?:抱歉|对不起|對不起|遗憾|遺憾|不好意思)",
        r"(?:作为|作為|我是)?(?:一个|一個|一名)?(?:AI|人工智能|人工智慧|大?型?语言模型|"
        r"大?型?語言模型)?[^。！？\n]{0,12}?"
        r"(?:无法|無法|不能|没办法|沒辦法|不便|没有能力|没有办法|沒有辦法|不可以|无权)(?:为您|为你|為您|為你|给您|给你|对此|直接|就此)?"
        r"(?:提供|回答|协助|協助|帮助|幫助|帮您|帮你|给到|給到|给出|給出|满足|滿足|完成|处理|處理|生成|撰写|撰寫|创建|讨论|討論|"
        r"回应|回應|执行|做到)",
        r"(?:但|但是|不过|不過|然而)[，,]?\s?(?:我可以|这里|這裡|以下|下面|一般)|以下是|下面是",
        r"(?:(?:这个|這個|该|該|您的|你的|此)(?:问题|問題|话题|話題|请求|請求)[，,]?)?我(?:暂时|暫時|目前|还|還)?"
        r"(?:无法|無法|不能|没办法|沒辦法)(?:为您|为你|給您|给您|给你|对此)?(?:提供|回答|协助|協助|帮助|幫助|帮您|"
        r"帮你|给到|給到|满足|滿足|生成|撰写|讨论|討論|回应)"
        r"|(?:作为|作為|我是)(?:一个|一個|一名)?(?:AI|人工智能|人工智慧|大?型?语言模型|"
        r"大?型?語言模型)[^。！？\n]{0,30}?(?:无法|無法|不能|没有|沒有)",
        unable=(
            r"我[^。！？，,\n]{0,12}?(?:无法|無法|不能|没办法|沒辦法|没有办法|沒有辦法|没有学会|沒有學會|不太明白|不便|无权)"
            r"|(?:作为|作為|我是)(?:一个|一個|一名)?(?:AI|人工智能|人工智慧|大?型?语言模型|大?型?語言模型)"
            r"[^。！？\n]{0,12}?(?:无法|無法|不能|没有|沒有)"
        ),
    ),
    "Dutch": Declining(
        r"het spijt me|sorry|helaas|mijn excuses|excuseer|als (?:ai|taalmodel|een ai|een taalmodel)[^,.]{0,40}",
        rf"(?:ik kan|kan ik|ik ben niet in staat){_GAP}(?:helpen|beantwoorden|assisteren|bieden|geven|"
        rf"schrijven|voldoen|maken)\b",
        r"maar (?:hier|ik kan|over het algemeen|in het algemeen)|hier (?:is|zijn)|daarom",
        rf"(?:ik kan|kan ik){_GAP}\b(?:niet|geen)\b{_GAP}(?:helpen|beantwoorden|assisteren|bieden|geven|"
        rf"schrijven|voldoen)\b",
        unable=rf"(?:ik kan|kan ik|ik mag|mag ik){_GAP}\b(?:niet|geen)\b"
        r"|ik ben niet in staat|heb ik geen toegang|ik heb geen toegang",
    ),
    "French": Declining(
        r"(?:je suis )?(?:vraiment |sincèrement )?désolée?|malheureusement|je regrette|je m'excuse|"
        r"excusez-moi|pardon|en tant qu(?:'|e )(?:ia|une? (?:ia|intelligence|modèle|assistant)|assistant|"
        r"modèle|intelligence)[^,.]{0,40}",
        rf"(?:je ne (?:peux|puis|suis|pourrai)|il m'est impossible){_SHORT}"
        r"(?:pas )?(?:en mesure de |capable de )?(?:vous |te |t'|y )?"
        r"(?:aider|assister|répondre|fournir|générer|créer|écrire|donner|accéder|satisfaire|discuter|rédiger)",
        r"mais (?:voici|je peux|en général|de manière générale)|voici|c'est pourquoi",
        unable=r"je ne (?:peux|puis|pourrai|suis pas (?:en mesure|capable|autoris|habilit)|dispose pas|saurais)"
        r"|je n'ai pas (?:accès|la possibilité)|il m'est impossible",
    ),
    "German": Declining(
        r"(?:es )?tut mir (?:sehr |wirklich )?leid|leider|entschuldigung|entschuldigen sie|verzeihung|"
        r"ich bedauere?|als (?:ki|künstliche intelligenz|sprachmodell|ein (?:ki|sprachmodell)|"
        r"eine ki)[^,.]{0,40}",
        rf"(?:(?:(?:das |dazu |dabei |hierbei |diese (?:an)?frage )?(?:ich kann|kann ich|darf ich|ich darf)){_GAP}"
        rf"(?:nicht|keine?n?) {_GAP}(?:helfen|beantworten|weiterhelfen|unterstützen|erstellen|"
        r"bereitstellen|schreiben|erfüllen|geben|bearbeiten|antworten|"
        r"behilflich sein|nachkommen|ausführen)"
        rf"|ich bin nicht in der lage,?{_GAP}zu (?:helfen|beantworten|erstellen|schreiben|geben))",
        r"(?:aber|jedoch|dennoch|trotzdem),? (?:hier|ich kann|im allgemeinen|grundsätzlich|allgemein)|"
        r"hier (?:ist|sind)|deshalb",
        unable=(
            rf"(?:ich kann|kann ich|ich darf|darf ich){_GAP}\b(?:nicht|nichts|keine?[nmrs]?)\b"
            r"|ich bin nicht in der lage"
            r"|(?:ich habe|habe ich|verfüge ich über|ich verfüge über) (?:leider )?keine?n?"
            r" (?:zugriff|zugang|möglichkeit)"
        ),
    ),
    "Greek": Declining(
        r"λυπάμαι|συγγνώμη|με συγχωρείτε|δυστυχώς|ζητώ συγγνώμη|ως (?:γλωσσικό|τεχνητή|μοντέλο)[^,.]{0,40}",
        rf"δεν (?:μπορώ|είμαι σε θέση|δύναμαι){_SHORT}(?:βοηθήσω|απαντήσω|παρέχω|δώσω|γράψω|δημιουργήσω|εκπληρώσω)",
        r"(?:αλλά|όμως|ωστόσο) (?:εδώ|μπορώ|γενικά)|ορίστε",
        unable=r"δεν (?:μπορώ|είμαι σε θέση|δύναμαι|έχω (?:πρόσβαση|τη δυνατότητα))",
    ),
    "Hebrew": Declining(
        r"(?:אני )?מצטערת?|סליחה|לצערי|אני מתנצלת?|מתנצלת?|כמודל שפה|כבינה מלאכותית",
        rf"(?:(?:אני )?לא יכולה?|איני יכולה?|אינני יכולה?|לא אוכל){_SHORT}(?:לעזור|לסייע|לענות|לספק|להשיב|"
        rf"לכתוב|ליצור)",
        r"אבל (?:הנה|אני יכול|באופן כללי)|הנה",
        unable=r"(?:אני )?לא יכולה?|איני יכולה?|אינני יכולה?|לא אוכל|אין לי (?:גישה|אפשרות)",
    ),
    "Hindi": Declining(
        r"(?:मुझे )?(?:माफ़|माफ|क्षमा) (?:करें|करे|कीजिए|कीजिये|करिए|करना)|सॉरी|मुझे खेद है|खेद है|मुझे अफ़सोस है|"
        r"दुर्भाग्य से|एक (?:ai|एआई|भाषा मॉडल)[^,.।]{0,30}",
        rf"मैं{_GAP}(?:मदद|सहायता|उत्तर|जवाब|प्रदान|पूरा|लिख|बना|जानकारी){_SHORT}(?:नहीं कर सकत|नहीं दे सकत|"
        rf"नहीं सकत|असमर्थ"
        r"|करने में सक्षम नहीं|नहीं कर पा|नहीं दे पा)",
        r"(?:लेकिन|परंतु|परन्तु|हालांकि) (?:यहाँ|यहां|मैं|आम तौर)|यहाँ",
        r"मैं (?:इस|आपकी|इसमें|यह)[^।.!?\n]{0,40}?(?:मदद|सहायता|उत्तर|जवाब|पूरा)[^।.!?\n]{0,16}?(?:नहीं कर सकत|"
        r"नहीं दे सकत|असमर्थ|सक्षम नहीं)",
        unable=r"मैं[^।.!?\n]{0,60}?(?:नहीं (?:\S{1,8} )?(?:सकत|पाऊ)|असमर्थ|सक्षम नहीं)",
    ),
    "Indonesian": Declining(
        r"(?:saya )?(?:mohon )?(?:minta )?maaf|sayangnya|sebagai (?:model|ai|kecerdasan|asisten)[^,.]{0,40}",
        rf"(?:saya|aku) tidak (?:dapat|bisa|mampu){_SHORT}(?:membantu|menjawab|memberikan|menyediakan|membuat|menulis|"
        rf"memenuhi)",
        r"(?:tetapi|tapi|namun) (?:berikut|saya (?:dapat|bisa)|secara umum)|berikut",
        unable=r"(?:saya|aku) (?:tidak|belum) (?:dapat|bisa|mampu|memiliki akses)",
    ),
    "Italian": Declining(
        r"mi (?:di)?spiace|spiacente|purtroppo|mi scuso|chiedo scusa|scus[ai]|(?:come|in quanto) (?:modello|ia|"
        r"intelligenza|assistente|un modello)[^,.]{0,40}",
        r"non (?:posso|sono in grado di|mi è possibile) (?:di )?(?:aiutar\w*|assister\w*|rispondere|fornir\w*|"
        r"generare|"
        r"creare|scrivere|dar\w*|soddisfare|esaudire)",
        r"(?:ma|però|tuttavia) (?:ecco|posso|in generale)|ecco|per questo",
        unable=r"non (?:posso|sono in grado|mi è possibile|ho accesso|ho la possibilità)",
    ),
    "Japanese": Declining(
        r"(?:大変|誠に)?申し訳(?:ありません|ございません|ないです|ない)|すみません|すいません|ごめんなさい|"
        r"恐れ入ります|残念(?:ながら|ですが)|(?:私は)?(?:ai|人工知能|言語モデル)[^。、]{0,16}(?:として|なので|"
        r"であるため|ですので)",
        r"[^。！？\n]{0,60}?(?:手伝い|お答え|答え|回答|対応|提供|お応え|支援|応じ|受け|作成|生成|協力|お話し)[^。！？\n]{0,14}?"
        r"(?:できません|できかねます|いたしかねます|致しかねます|しかねます|できない|できませんでした)"
        r"|[^。！？\n]{0,60}?(?:(?:答え|応え|応じ|受け)られ|力になれ)(?:ません|ない)",
        r"(?:しかし|ただし|ですが|ただ)、?(?:以下|一般|ここ)|以下(?:に|は|の)|代わりに",
        # Humble forms, which only the writer says of what it does itself.
        r"(?:[^。！？\n]{0,30}?(?:に|には|については|、))?(?:お答え|お手伝い|お応え)(?:することは?|は)?(?:できません|できかねます|いたしかねます|致しかねます)",
        unable=r"[^。！？\n]{0,60}?(?:その|この)(?:よう|ご|要求|要望|依頼|質問|内容|リクエスト|話題|件)[^。！？\n]{0,30}?(?:できません|できかねます|かねます)|それは(?:できません|できかねます)",
    ),
    "Korean": Declining(
        r"(?:정말 )?죄송합니다|죄송하지만|죄송해요|미안합니다|미안하지만|유감스럽게도|유감입니다|안타깝게도|"
        r"아쉽게도|아쉽지만|안타깝지만|(?:저는 )?(?:ai|인공지능|언어 모델)[^.,]{0,20}",
        r"[^.!?\n]{0,60}?(?:도와|도움|들어드리|들어드릴|들어 드릴|응할|응하|"
        r"답변|대답|제공|응답|수행|작성|생성|지원|알려)[^.!?\n]{0,14}?"
        r"(?:수(?:가|는)? 없(?:습니다|어요|네요|음|어\b)|못합니다|어렵습니다|불가능합니다)",
        r"(?:하지만|그러나|다만|그렇지만) (?:다음|일반적|여기|제가)|다음은|대신",
        # Humble forms, which only the writer says of what it does itself.
        r"[^.!?\n]{0,30}?(?:도와|답변|답변해|알려)\s?드릴 수(?:가|는)? 없(?:습니다|어요|네요)",
        unable=r"(?:그|해당|이|이런|이러한|요청하신|요구하신) ?(?:요청|질문|내용|부탁|요구|주제|정보)[^.!?\n]{0,24}?"
        r"수(?:가|는)? 없",
    ),
    "Polish": Declining(
        r"przepraszam|przykro mi|niestety|wybacz|jako (?:model|ai|sztuczna|asystent)[^,.]{0,40}",
        rf"nie (?:mogę|jestem w stanie|potrafię){_SHORT}(?:pomóc|odpowiedzieć|dostarczyć|udzielić|napisać|"
        rf"stworzyć|spełnić)",
        r"ale (?:oto|mogę|ogólnie|zasadniczo)|oto|dlatego",
        unable=r"nie (?:mogę|jestem w stanie|potrafię|mam (?:dostępu|możliwości))",
    ),
    "Portuguese": Declining(
        r"desculpe?|me desculpe|sinto muito|lamento|infelizmente|peço desculpas?|perdão|"
        r"como (?:um )?(?:modelo|ia|inteligência|assistente)[^,.]{0,40}",
        r"(?:eu )?não (?:posso|consigo|sou capaz de|estou apt[oa] a) (?:te |o |a |lhe )?(?:ajud\w+|auxiliar|"
        r"respond\w+|"
        r"fornecer|gerar|criar|escrever|dar|atender|cumprir|discutir|oferecer)",
        r"mas (?:aqui|posso|em geral|de modo geral)|aqui (?:está|estão)|por isso",
        unable=r"(?:eu )?não (?:posso|consigo|sou capaz|estou apt[oa]|tenho (?:acesso|como|capacidade))",
    ),
    "Russian": Declining(
        r"извините|простите|прошу прощения|к сожалению|мне (?:очень )?жаль|сожалею|приношу извинения|прости|"
        r"извини|(?:я )?как (?:языковая модель|ии|искусственный|нейросеть|большая)[^.]{0,40}",
        rf"(?:я )?не (?:могу|смогу|в состоянии|в силах){_SHORT}(?:помочь|ответить|предоставить|выполнить|"
        rf"написать|создать|"
        r"обсуждать|дать|сгенерировать|удовлетворить)",
        r"(?:но|однако) (?:вот|я могу|в общем|в целом)|вот|поэтому",
        unable=r"(?:я )?не (?:могу|смогу|в состоянии|в силах|имею (?:доступа|возможности))"
        r"|у меня нет (?:доступа|возможности)",
    ),
    "Spanish": Declining(
        r"lo siento(?: mucho)?|lo lamento|lamentablemente|desafortunadamente|disculp[ae]|perdón|perdona|"
        r"me temo que|como (?:un )?(?:modelo|ia|inteligencia|asistente)[^,.]{0,40}",
        r"(?:yo )?no (?:puedo|soy capaz de|estoy en condiciones de|me es posible) (?:te |le )?(?:ayud\w+|"
        r"asist\w+|respond\w+|"
        r"proporcion\w+|generar|crear|escribir|dar\w*|cumplir|ofrecer\w*|discutir|brindar\w*)",
        r"pero (?:aquí|puedo|en general|por lo general)|aquí (?:está|tienes?|tiene)|por eso",
        unable=r"(?:yo )?no (?:puedo|soy capaz|estoy en condiciones|me es posible|tengo (?:acceso|la capacidad))",
    ),
    "Thai": Declining(
        r"(?:ผม|ฉัน|ดิฉัน)?(?:ต้อง)?(?:ขออภัย|ขอโทษ|เสียใจ)(?:ด้วย|อย่างยิ่ง)?(?:นะ)?(?:ครับ|ค่ะ|คะ)?|ในฐานะ[^.\s]{0,30}",
        r"[^.!?\n]{0,30}?(?:ไม่สามารถ|ไม่อาจ)[^.!?\n]{0,12}?(?:ช่วย|ตอบ|ให้|เขียน|สร้าง|ดำเนินการ|ทำ)"
        r"|(?:ผม|ฉัน|ดิฉัน)(?:ช่วย|ตอบ|ทำ|ให้)[^.!?\n]{0,40}?ไม่ได้",
        r"แต่(?:นี่|ผม|ฉัน|โดยทั่วไป|สามารถ)|ต่อไปนี้",
        r"(?:ผม|ฉัน|ดิฉัน)ไม่สามารถ(?:ช่วย|ตอบ|ให้ข้อมูล|เขียน|สร้าง)",
        unable=r"(?:ผม|ฉัน|ดิฉัน|เรา)(?:ยัง)?(?:ไม่สามารถ|ไม่อาจ)",
    ),
    "Turkish": Declining(
        r"üzgünüm|özür dilerim|maalesef|ne yazık ki|kusura bakma(?:yın)?|afedersiniz|bir (?:yapay zeka|"
        r"dil modeli)[^,.]{0,40}",
        rf"{_GAP}(?:yardımcı olamam|yardımcı olamıyorum|yardım edemem|cevap veremem|cevaplayamam|yanıt veremem|"
        r"yanıtlayamam|sağlayamam|yapamam|yazamam|oluşturamam|veremem|yerine getiremem)",
        r"(?:ama|ancak|fakat) (?:işte|genel|size)|işte",
        r"(?:bu (?:konuda|isteği|isteğinizi|soruya) |buna |size )?"
        r"(?:yardımcı olamam|yardımcı olamıyorum|yardım edemem|cevap veremem|"
        r"yanıt veremem|yerine getiremem)",
        unable=rf"{_GAP}\w(?:amam|emem|amıyorum|emiyorum)\b",
    ),
    "Ukrainian": Declining(
        r"вибачте|перепрошую|на жаль|мені (?:дуже )?шкода|пробачте|прошу вибачення|як (?:мовна модель|ші|"
        r"штучний)[^.]{0,40}",
        rf"(?:я )?не (?:можу|зможу|в змозі){_SHORT}(?:допомогти|відповісти|надати|виконати|написати|створити|дати)",
        r"(?:але|однак|проте) (?:ось|я можу|загалом)|ось|тому",
        unable=r"(?:я )?не (?:можу|зможу|в змозі|маю (?:доступу|можливості))",
    ),
    "Vietnamese": Declining(
        r"(?:tôi |mình )?(?:rất |thành thật )?(?:xin lỗi|tiếc)(?: bạn)?|rất tiếc|đáng tiếc|là (?:một )?(?:mô hình|ai|"
        r"trí tuệ)[^,.]{0,40}",
        rf"(?:tôi|mình) (?:không thể|không có khả năng|chưa thể){_SHORT}(?:giúp|trả lời|cung cấp|hỗ trợ|thực hiện|viết|"
        rf"tạo|đáp ứng)",
        r"(?:nhưng|tuy nhiên),? (?:đây|tôi có thể|nhìn chung|nói chung)|sau đây|dưới đây",
        unable=r"(?:tôi|mình|em) (?:không thể|không có khả năng|chưa thể|không có quyền)",
    ),
}
# What a reply may greet with before anything else.
GREETINGS = (
    "hello|hi|hey|dear user|hallo|guten tag|bonjour|hola|olá|oi|ciao|buongiorno|cześć|dzień dobry|здравствуйте|привет|"
    "добрый день|вітаю|привіт|γεια σας|γεια|merhaba|xin chào|chào bạn|halo|hai|مرحبا|السلام عليكم|أهلا|שלום|नमस्ते|"
    "नमस्कार|"
    "สวัสดี(?:ครับ|ค่ะ|คะ)?|您好|你好|こんにちは|안녕하세요"
)
_START = rf"[\s\"'“„«「*_]*(?:(?:{GREETINGS})[\s,.!،，。！、～~]+)?"
_JOIN = r"[\s,.،，。、！!:;…\-–—]*(?:{but})?[\s,，、:]*"
_BUT = (
    "but|aber|doch|mais|pero|mas|ma|maar|ale|но|але|ama|ancak|fakat|nhưng|tetapi|tapi|但是|但|不过|ですが|が|しかし|만|하지만"
    "|ولكن|لكن|אבל|אך|लेकिन|परंतु|แต่|αλλά|que|що|что|dass|că"
)


def _pattern(one: Declining, cannot: str, alone: str | None) -> re.Pattern[str]:
    behind = rf"(?:{one.sorry}){_JOIN.format(but=_BUT)}{_GAP}(?:{cannot})"
    return re.compile(composed(_START + (behind if alone is None else f"(?:{behind}|{alone})")), re.I)


_PATTERNS = tuple(
    (
        _pattern(one, one.cannot, None if one.alone is None else one.alone or one.cannot),
        None if one.unable is None else _pattern(one, one.unable, None),
        re.compile(composed(one.goes_on), re.I),
    )
    for one in LANGUAGES.values()
)


def declined_by(start: str) -> Declined | None:
    """How a text declines, in a language of the table, or None. `start` is its beginning, in NFC and without Arabic
    points."""
    for firm, loose, goes_on in _PATTERNS:
        if (found := firm.match(start)) is not None:
            return Declined(found.end(), goes_on, firmly=True)
        if loose is not None and (found := loose.match(start)) is not None:
            return Declined(found.end(), goes_on, firmly=False)
    return None
