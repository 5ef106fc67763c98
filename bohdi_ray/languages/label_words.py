"""The words with which judges name an answer, by language: data for the rules in `languages/labels.py`. Pure.

All are parts of regular expressions without case. A line adds a language; a field left out says that the language has
no such words here.
"""

from __future__ import annotations

from typing import NamedTuple

EMPTY = r"(?!)"  # the words of a field left out: they match nowhere


class Words(NamedTuple):
    """The words of one language. Spaces may surround every field in a text."""

    nouns: str = EMPTY  # what an answer is called
    nature: str = EMPTY  # what may follow a noun and say that it is the right one
    links: str = EMPTY  # what joins noun and label, where no colon does
    chooses: str = EMPTY  # what announces a label without a noun
    wins: str = EMPTY  # what makes a label the subject of a verdict; LABEL stands for the label it is measured by
    closes: str = EMPTY  # what ends the sentence of an announced label
    turned: str = EMPTY  # what turns an announcement round: of the worst, the second, another; a denial; a condition
    is_bare: bool = False  # whether a noun directly in front of a label may announce it ("Cevap B")
    is_spaced: bool = True  # whether a word begins behind a space or mark


_GOOD = (
    r"(?:accurate|correct|complete|thorough|helpful|precise|comprehensive|informative|relevant|reliable|appropriate|"
    r"suitable|convincing|useful|truthful|factual|satisfying)"
)
_GUT = r"(?:genau|richtig|korrekt|vollständig|hilfreich|präzis|umfassend|überzeugend)\w*"
_BON = (
    r"(?:précis|complèt|complet|exact|correct|corrett|corret|complet|preciso?|precisa|esatt|util|útil|adecuad|adequad)"
    r"\w*"
)
_HAO = r"(?:好|优秀?|優秀?|佳|准确|準確|全面|完整|正确|正確|合适|合適|清晰准确|强|強|可靠|详实|恰当|恰當)"
_YOI = r"(?:良い|良く|よい|いい|優れ|正しい|正確|適切|的確|最適|最良|完全|包括的|優秀)"
_JOEUN = r"(?:좋|낫|나은|우수|정확|완전|적절|뛰어|훌륭)"

WORDS = {
    "English": Words(
        nouns=r"answer|choice|verdict|decision|judge?ment|winner|pick|selection|response|label|letter|result|"
        r"conclusion|(?:best|better|winning|correct|right|strongest)\s+(?:one|option|candidate)",
        nature=r"here|overall|in\s+my\s+(?:view|opinion)|among\s+(?:them|these|the\s+\w+)|of\s+(?:these|the\s+\w+)",
        links=r"(?:is|was|has\s+to\s+be|must\s+be)(?:\s+(?:clearly|definitely|therefore|thus))?\b",
        chooses=r"\b(?:i|we)(?:\s+(?:would|will|'d|'ll)|['’]d|['’]ll)?\s+(?:choose|pick|select|prefer|go\s+with|"
        r"vote\s+for)\b|(?:\A|(?<=[\n.:!]\s)|(?<=\n))(?:choose|select|pick)\b|\bbest\s*:|\bthe\s+best\s+is\b|"
        r"\bi(?:\s+would|['’]d)\s+say\b|(?:\A|(?<=[\n.]\s)|(?<=\n))(?:so|therefore|thus|hence)\b,?|"
        r"\b(?:my|the\s+(?:best|better|correct|right))\s+(?:answer|choice|option)\s+would\s+be\b",
        wins=r"\s+(?:wins?\b|(?:is|was)(?:\s+(?:clearly|definitely|by\s+far|slightly|much|overall))*"
        r"\s+(?:the\s+)?(?:best|better|winner|correct|right|superior|strongest|stronger|preferable|"
        rf"(?:more|most)\s+{_GOOD})\b)",
        closes=r"(?:\s+(?:overall|here|by\s+far))(?!\w)",
        turned=r"first\b|worst|worse|wrong|incorrect|inferior|weak|bad\b|poor|least|less\b|other\b|runner|second(?![\s-]+thought)|"
        r"third|not\b|never|cannot|neither|nor\b|no(?![\s-]+(?:doubt|question))\b|without|\w+n['’]t\b|if\b|whether|"
        r"unless|should\s+(?:i|we)\b|rejected|errors?\b|mistakes?|flaw|lacks?\b|miss(?:es|ing)|fails?\b|off\b|incomplete|"
        r"inaccurate|misleading|unclear|false",
    ),
    "German": Words(
        nouns=r"antwort|wahl|entscheidung|urteil|gewinner|lösung|ergebnis|variante",
        links=r"(?:ist|lautet|wäre)(?:\s+(?:eindeutig|klar|daher|also))?(?:\s+die)?\b",
        chooses=r"\bich\s+(?:wähle|bevorzuge|nehme|entscheide\s+mich\s+für)\b|\bam\s+besten\s+ist\b|\b(?:richtig|die\s+beste|die\s+bessere)\s+ist\b",
        wins=rf"\s+ist\s+(?:die\s+|am\s+|eindeutig\s+)*(?:besser|beste|richtig(?!e\s+nicht)\w*|korrekt\b|"
        rf"genauer|vollständiger|hilfreicher|präziser|(?:genauest|vollständigst|hilfreichst)\w*)(?:\s+{_GUT})?",
        turned=r"erste|schlecht|schlimm|schwäch|falsch|unrichtig|inkorrekt|zweit|andere|nicht|kein|nie\b|wenn|falls\b|ob\b|"
        r"fehler|unvollständig|ungenau",
    ),
    "Dutch": Words(
        nouns=r"antwoord|keuze|winnaar",
        links=r"is\b",
        chooses=r"\bik\s+kies(?:\s+voor)?\b",
        wins=r"\s+is\s+(?:het\s+|de\s+)?(?:beste?|beter|juiste?)\b",
        turned=r"slecht|fout|onjuist|verkeerd|tweede|niet\b|geen\b|indien",
    ),
    "Swedish, Danish, Norwegian": Words(
        nouns=r"svar(?:et)?|val(?:et)?|valg(?:et)?|vinnare|vinder",
        links=r"(?:är|er)\b",
        chooses=r"\b(?:jag\s+väljer|jeg\s+vælger|jeg\s+velger)\b",
        wins=r"\s+(?:är|er)\s+(?:det\s+|den\s+)?(?:bäst|bättre|bedst|bedre|best)\w*",
        turned=r"sämst|värst|dårlig|verst|fel\b|feil\b|forkert|felaktig|näst|andra\b|inte\b|ikke\b|ej\b|om\b|hvis\b",
    ),
    "French": Words(
        nouns=r"réponse|choix|verdict|option|gagnante?|lettre|proposition",
        nature=r"correcte|exacte|finale?|définitive|choisie",
        links=r"(?:est|serait)(?:\s+(?:donc|la|l['’]))?(?=\W)",
        chooses=r"\b(?:le\s+meilleur|la\s+meilleure)\s+est\b|\bje\s+(?:choisis|préfère|retiens|vote\s+pour)(?:\s+la)?(?=\W)",
        wins=rf"\s+est\s+(?:la\s+|le\s+)?(?:meilleure?|correcte?|plus\s+{_BON})\b",
        turned=r"premi[eè]r|pire|mauvais|fauss|faux\b|incorrect|moins\b|second|deuxième|autre|pas\b|ne\b|n['’]|non\b|ni\b|si\b|"
        r"erreur|erroné|incompl",
    ),
    "Spanish": Words(
        nouns=r"respuesta|elección|veredicto|opción|letra|ganadora?|alternativa",
        nature=r"correcta|final|elegida|más\s+\w+",
        links=r"(?:es|sería)(?:\s+(?:la|el))?(?=\W)",
        chooses=r"\b(?:elijo|escojo|prefiero|me\s+quedo\s+con)(?:\s+la)?(?=\W)|(?:\A|(?<=\n))letra(?=\s)",
        wins=rf"\s+es\s+(?:la\s+|el\s+)?(?:mejor|correcta|más\s+{_BON})\b",
        turned=r"primera?\b|peor|incorrect|equivocad|errón|mal[ao]?\b|menos\b|segund|otr[ao]\b|no\b|ni\b|nunca|tampoco|si\b|error|"
        r"incompl",
    ),
    "Portuguese": Words(
        nouns=r"resposta|escolha|veredito|opção|letra|vencedora?|alternativa",
        nature=r"correta|certa|final|escolhida|mais\s+\w+",
        links=r"(?:é|seria)(?:\s+(?:a|o))?(?=\W)",
        chooses=r"\b(?:escolho|prefiro)(?:\s+a)?(?=\W)",
        wins=rf"\s+é\s+(?:a\s+|o\s+)?(?:melhor|correta|mais\s+{_BON})\b",
        turned=r"primeir|pior|incorret|errad|menos\b|segund|outra|não\b|nem\b|nunca|(?<=[\s,;])se\b|erro\b",
    ),
    "Italian": Words(
        nouns=r"risposta|scelta|verdetto|opzione|lettera|vincitrice",
        nature=r"corretta|migliore|giusta|finale|esatta|più\s+\w+",
        links=r"(?:è|sarebbe)(?:\s+la)?(?=\W)",
        chooses=r"\b(?:scelgo|preferisco)(?:\s+la)?(?=\W)",
        wins=rf"\s+è\s+(?:la\s+|il\s+)?(?:migliore|corretta|giusta|più\s+{_BON})\b",
        turned=r"prima\b|peggior|sbagliat|errat|scorrett|meno\b|second|altra\b|non\b|né\b",
    ),
    "Romanian": Words(
        nouns=r"răspuns(?:ul)?|raspuns(?:ul)?|alegerea|varianta",
        nature=r"corect[ăa]?|final[ăa]?",
        links=r"(?:este|e)\b",
        chooses=r"\baleg\b",
        wins=r"\s+este\s+(?:cel\s+mai\s+bun|cea\s+mai\s+bun[ăa]|mai\s+bun[ăa]?)(?!\w)",
        turned=r"gre[sșş]it|incorect|slab|prost|doilea|doua\b|nu\b|nici\b|dac[ăa]\b",
    ),
    "Hungarian": Words(
        nouns=r"válasz|választás|döntés|megoldás",
        links=r"(?:az|a)(?=\s)",
        wins=r"\s+(?:a\s+)?(?:legjobb|jobb)\b",
        turned=r"legrosszabb|rossz|helytelen|hibás|második|nem\b|sem\b",
    ),
    "Finnish": Words(
        nouns=r"vastaus|valinta|ratkaisu",
        links=r"on\b",
        wins=r"\s+on\s+(?:paras|parempi|oikein)\b",
        turned=r"väär|huono|virheelli|toise|ei\b|jos\b",
    ),
    "Russian, Ukrainian": Words(
        nouns=r"ответ|выбор|вердикт|вариант|итог|победитель|відповідь|вибір|варіант",
        links=r"(?:это|це|является|[—–-])",
        chooses=r"(?<!\w)(?:выбираю|предпочитаю|обираю|я\s+бы\s+выбрала?|лучшим\s+ответом\s+является)(?!\w)",
        wins=r"\s+(?:[—–-]\s+)?(?:лучше|лучший|является\s+лучш\w+|кращ\w+|найкращ\w+|"
        r"(?:более\s+)?(?:точнее|полнее|правильн\w+|верный|верен)(?!\w))",
        turned=r"перв|перш|худш|хуже|наихудш|неверн|неверен|неправ|ошиб|неполн|неточн|втор|друг|не(?!\w)|нет(?!\w)|ни(?!\w)|если|"
        r"гірш|невірн|помилк|якщо",
        is_bare=True,
    ),
    "Polish, Czech": Words(
        nouns=r"odpowiedź|wybór|odpověď|volba|možnost",
        links=r"(?:to|je|jest|[—–-])(?=\W)",
        chooses=r"\b(?:wybieram|vybírám)\b",
        wins=r"\s+(?:jest\s+(?:naj)?leps\w+|je\s+(?:nej)?lepší)",
        turned=r"gorsz|najgorsz|błęd|niepopr|niepraw|drug|nie\b|ani\b|jeśli|jeżeli|"
        r"horší|nejhorší|špatn|nespráv|druh|ne\b|není\b|pokud",
        is_bare=True,
    ),
    "Greek": Words(
        nouns=r"απάντηση|επιλογή",
        links=r"είναι(?:\s+(?:η|το))?(?=\s)",
        chooses=r"(?<!\w)επιλέγω(?:\s+(?:τη|την|το))?(?=\s)",
        wins=r"\s+είναι\s+(?:η\s+)?(?:καλύτερη|σωστή)",
        turned=r"χειρότερ|λάθος|λανθασμέν|δεύτερ|άλλη|δεν(?!\w)|δε(?!\w)|όχι|μη(?!\w)|αν(?!\w)",
    ),
    "Turkish": Words(
        nouns=r"cevap|cevabım|yanıt|yanıtım|seçimim|seçim|karar|sonuç",
        wins=r"\s+(?:daha\s+(?:iyi|doğru)|en\s+(?:iyi|doğru))",
        closes=r"['’][dt][iıuü]r(?!\w)",
        turned=r"değil|yanlış|hatalı|kötü|ikinci|diğer|eğer|eksik|olamaz",
        is_bare=True,
    ),
    "Vietnamese": Words(
        nouns=r"đáp\s+án|câu\s+trả\s+lời|lựa\s+chọn|kết\s+luận",
        nature=r"(?:tốt|đúng|chính\s+xác|phù\s+hợp)(?:\s+nhất)?|cuối\s+cùng",
        links=r"là\b",
        chooses=r"\b(?:tôi\s+)?chọn\b",
        wins=r"\s+(?:là\s+)?(?:tốt|đúng|chính\s+xác)\s+(?:hơn|nhất)",
        turned=r"sai\b|tệ|kém|thứ\s+hai|khác\b|không\b|chưa\b|chẳng\b|đừng\b|nếu\b|lỗi\b",
    ),
    "Indonesian": Words(
        nouns=r"jawaban|pilihan|kesimpulan|keputusan",
        nature=r"(?:yang\s+)?(?:terbaik|benar|tepat)|akhir|saya",
        links=r"(?:adalah|ialah)\b",
        chooses=r"\b(?:saya\s+)?memilih\b|\b(?:saya\s+)?pilih\b",
        wins=r"\s+(?:adalah\s+)?(?:yang\s+)?(?:lebih|paling)\s+(?:baik|tepat|benar|akurat|lengkap)\b|\s+terbaik\b",
        turned=r"buruk|terburuk|salah|keliru|kedua|lain|bukan\b|tidak\b|jangan\b|jika\b|kalau\b|kurang",
    ),
    "Arabic": Words(
        nouns=r"الإجابة|الاجابة|الجواب|إجابة|جواب|الاختيار|الخيار",
        nature=r"الصحيحة?|الأفضل|الأصح|النهائية?|الأدق",
        links=r"(?:هي|هو)",
        chooses=r"(?<!\w)(?:أختار|اخترت|أفضل)",
        wins=r"\s*(?:هي|هو)\s+(?:الأفضل|الأصح|الأدق|الصحيحة?|أفضل)",
        turned=r"خاطئ|الخاطئ|خطأ|الأسوأ|أسوأ|غير(?!\w)|ثاني|الثاني|الأخرى|ليس|لا(?!\w)|لن(?!\w)|لم(?!\w)|إذا|إن(?!\w)|لو(?!\w)",
        is_bare=True,
    ),
    "Persian, Urdu": Words(
        nouns=r"پاسخ|گزینه|گزینهٔ|جواب",
        nature=r"صحیح|درست|نهایی",
        wins=r"\s+(?:بهتر|بهترین|درست)\s+است",
        closes=r"\s*(?:است|ہے)(?!\w)",
        turned=r"نیست|نه(?!\w)|غلط|نادرست|اشتباه|بدتر|بدترین|دوم|اگر|نہیں",
        is_bare=True,
    ),
    "Hebrew": Words(
        nouns=r"התשובה|תשובה|הבחירה|בחירתי",
        nature=r"הנכונה|הטובה(?:\s+ביותר)?|הסופית|שלי",
        links=r"(?:היא|הוא)",
        chooses=r"(?:אני\s+)(?:בוחרת?)(?:\s+ב-?)?",
        wins=r"\s+(?:היא|הוא)\s+(?:הטובה|הטוב|הנכונה)|\s+(?:עדיפה?|טובה?\s+יותר)",
        turned=r"לא(?!\w)|אינ|אין|שגוי|השגוי|גרוע|הגרוע|השני|אחרת|אם(?!\w)",
        is_bare=True,
    ),
    "Hindi": Words(
        nouns=r"उत्तर|जवाब|विकल्प",
        links=r"है",
        wins=r"\s+(?:सबसे\s+अच्छा|बेहतर|सर्वश्रेष्ठ|सर्वोत्तम)",
        closes=r"\s*(?:है|हैं)(?=\W|$)",
        turned=r"नहीं|गलत|ग़लत|खराब|बदतर|दूसरा|अगर|यदि|मत(?=\s)",
        is_bare=True,
    ),
    "Bengali, Tamil, Telugu": Words(
        nouns=r"উত্তর|জবাব|উত্তরটি|பதில்|விடை|జవాబు|సమాధానం",
        links=r"হল|হলো|হচ্ছে",
        turned=r"ভুল|খারাপ|দ্বিতীয়|নয়|না(?=\s)|যদি|தவறான|தவறு|మంచిది\s+కాదు|తప్పు",
    ),
    "Thai": Words(
        nouns=r"คำตอบ|ตอบ|ข้อ|ตัวเลือก",
        nature=r"ที่ดีที่สุด|ที่ถูกต้อง|ที่ถูก|สุดท้าย",
        links=r"คือ(?:\s*ข้อ)?|ข้อ",
        chooses=r"เลือก(?:\s*ข้อ)?",
        wins=r"\s*(?:ดีที่สุด|ดีกว่า|ถูกต้อง)",
        turned=r"ไม่|ผิด|แย่|มิใช่|ถ้า|หาก|อื่น|รองลงมา",
        is_bare=True,
        is_spaced=False,
    ),
    "Chinese": Words(
        nouns=r"答案|回答|选择|選擇|结论|結論|判断|判斷|结果|結果|选项|選項|获胜者|獲勝者|胜者|勝者|标签|字母|答(?=[:：])|"
        r"(?:最佳|最好|最优|最優)(?:的)?",
        links=r"(?:应该|應該|应|應|就|则|当然|當然|显然|顯然)?(?:是|为|為|选择?|選擇?)",
        chooses=r"我?(?:应该|應該|应|應|会|會|故|推荐|推薦)?(?:选择?|選擇?)(?:\s*[:：])?|推荐|推薦",
        wins=rf"\s*(?:是|的)?(?:最|更|较|較){_HAO}|\s*是?(?:正确|正確)(?!率)|\s*(?:优于|優於|胜过|勝過|好于|好於)"
        rf"\s*LABEL|\s*比\s*LABEL\s*(?:更|要)?{_HAO}|\s*(?:胜出?|勝出?|获胜|獲勝)(?!率|于|於|过|任|利)",
        closes=r"\s*(?:项|項|选项|選項|号)?(?:吧|了)?(?=\W|$)(?<=[项項号吧了])",
        turned=r"最差|较差|較差|更差|差的|最坏|最糟|错|錯|误|次优|次佳|次優|其次|第[一二三四]|另一|另外|不(?!过|過|过|仅|僅)|"
        r"没(?!错)|沒(?!錯)|未(?!来)|非(?!常)|无法|無法|(?<![特分区區级])别|勿|如果|若|要是|假如|除非|是否|还是|遗漏|欠",
        is_bare=True,
        is_spaced=False,
    ),
    "Japanese": Words(
        nouns=r"答え|正解|解答|回答|結論|勝者|判定|ベストアンサー|選択肢|選択|最適|最良(?:の(?:もの|選択))?",
        links=r"(?:は|が|として)[、，]?",
        wins=rf"\s*(?:が|の方が|のほうが)(?:最も|一番|より)?{_YOI}|\s*(?:が|は|の方が|のほうが)\s*LABEL\s*より(?:も)?{_YOI}|"
        r"\s*が(?:正解|一番(?:です|だ))|\s*(?:を選び|を選ぶ|を選択|です|だ)(?=$|[。、\s]|ま|し)",
        closes=r"\s*(?:です|だ|である|でしょう|となります|になります|だと思います|と考えます|を選びます)(?=\W|$)",
        turned=r"最初|一つ目|二つ目|最悪|悪い|劣|誤|間違|不正|不適|不完全|二番|次点|次に|他の|もう一方|ない|ません|なく|ず(?:に|、)|もし",
        is_bare=True,
        is_spaced=False,
    ),
    "Korean": Words(
        nouns=r"정답|답변|답|선택|결론|승자",
        links=r"(?:은|는|이|가)",
        chooses=r"저는(?=\s)",
        wins=rf"\s*(?:가|이)\s*(?:가장|더|제일)\s*{_JOEUN}|\s*(?:가|이)\s*LABEL\s*보다\s*(?:더\s*)?{_JOEUN}|"
        r"\s*(?:가|이)\s*(?:최고|정답)(?:입니다|이다)|\s*(?:입니다|를\s*선택)",
        closes=r"\s*(?:번)?(?:입니다|이다|다|예요|이에요|임|을\s*선택합니다|를\s*선택합니다)?(?=\W|$)(?<=[번다요임])",
        turned=r"첫|나쁜|나쁘|최악|틀린|틀렸|오답|잘못|부적절|부정확|오류|두\s*번째|차선|다른|않|아니|아닌|아닙|안\s|못\s|만약",
        is_bare=True,
        is_spaced=False,
    ),
}

# Announcements that belong to no language.
MARKS = (
    r"\\f?box(?:ed)?\s*\{",
    r"\[\[",
    r"<\|begin_of_box\|>",
    r"<\s*(?:final[\s_-]?|best[\s_-]?)?(?:answer|choice|verdict|decision|judge?ment|winner|label|result|best|final)\s*>",
)
# What an answer is called, of which a label is the name.
NAMES = (
    r"(?:the\s+|l['’])?(?:answer|option|candidate|response|letter|choice|antwort|option|réponse|respuesta|"
    r"resposta|risposta|opción|letra|"
    r"opção|opzione|alternativa|ответ|вариант|відповідь|varianta?|سؤال|الخيار|الإجابة|התשובה|उत्तर|विकल्प|ข้อ|đáp án|"
    r"答案|选项|選項|回答|選択肢|보기|답변|jawaban|cevap|odpowiedź)"
)
AND = (
    r"(?:or|and|und|oder|ou|et|o|y|e|и|или|або|та|ή|και|veya|ve|và|hoặc|atau|dan|أو|و|או|ו|या|और|หรือ|และ"
    r"|或者?|和|与|與|还是|還是|跟|か|と|もしくは|または|や|또는|과|와|이나|나|혹은|vs\.?|versus)"
)
# Words that begin a reason wherever they stand, those that do behind an announced label, and such as go on otherwise.
CAUSE = (
    r"(?:because|weil|denn|parce|puisque|porque|perché|poiché|потому|поскольку|оскільки|ponieważ|protože|çünkü|karena|"
    r"لأن|क्योंकि|เพราะ|因为|因為|由于|由於|왜냐하면)"
)
BECAUSE = rf"(?:{CAUSE}|since|as|for|due|over|da|car|ya|pois|так|бо|bo|vì|כי)"
GOES_ON = r"(?:which|who|that|it|its|in|by|but|with|while|here|overall)"
# Words that begin a clause of its own in the middle of a sentence.
CLAUSE = (
    r"(?<!\w)(?:because|since|but|so|therefore|thus|hence|while|whereas|aber|weil|daher|sondern|mais|donc|pero|sino|mas|"
    r"ma|но|поэтому|а|lecz|ale|ama|fakat|nhưng|tetapi|لكن|بل|אלא|लेकिन|แต่)(?!\w)|但是?|而是?|所以|因此|하지만|따라서"
)
