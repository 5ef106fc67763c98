"""Which label a judge's reply names as its answer: the one rule for texts and for log-probabilities. Pure.

A label counts only where it is the answer:
1. behind words that announce one ("The best answer is B", "Answer: (b)", "答案是B", "\\boxed{B}"); the last such
   statement counts, for a judge may correct itself. Where such a word alone stands before a label it may also be a name
   of it ("回答B比回答A好", "回答B较差"): it counts if no other label has one and the sentence ends there
2. else as the subject of a verdict ("B is better than A", "Bが最も良い"), if all verdicts name the same label
3. else at the beginning or alone on the last line, set off from the rest ("B", "**B**", "(b)", "Option B", "B. It is
   right", "B\\nbecause"), if no other label is set off so: that would be a list of remarks on both
What a letter begins or ends as a word or part of one ("A close call", "A+", "N/A"), and one of several ("A or B"), is
no answer. Case and width do not matter. Called by `engines/prompts.py` and `engines/choices.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from bohdi_ray.languages.scripts import IGNORABLE

OPENING = " \t\n*_`\"'“‘「『【([{$#>"  # what may stand before a label as the first thing written
HEAD, TAIL = 1000, 3000  # characters of a reply that are looked at, from either end

# Words before a label, then what may link them to it. Without case; within a language's group, the longest first.
_ANNOUNCE = (
    # English
    r"(?:(?:final|best|better|correct|right|winning|preferred|chosen|my)\s+)?(?:answer|choice|verdict|"
    r"decision|judge?ment|winner|"
    r"pick|selection|response)(?:\s+(?:here|overall))?(?:\s*(?:is|was)(?:\s+clearly)?\b\s*:?|[\"'*_]{0,4}\s*[:=])",
    r"\b(?:i|we)(?:\s+(?:would|will|'d))?\s+(?:choose|pick|select|prefer|go\s+with|vote\s+for)\b",
    r"\bthe\s+(?:best|better|winning|correct)\s+(?:one|option)\s+is\b|\bbest\s*:",
    # German, Dutch
    r"(?:(?:beste|bessere|richtige|finale|meine)\s+)?(?:antwort|wahl|entscheidung|urteil|gewinner|"
    r"antwoord|keuze|winnaar)"
    r"(?:\s+(?:ist|lautet|is)\b|\s*[:=])",
    r"\b(?:ich\s+wähle|ich\s+bevorzuge|ik\s+kies)\b",
    # French, Spanish, Portuguese, Italian
    r"(?:(?:meilleure?|mejor|melhor|migliore|correcta|correta|bonne)\s+)?(?:réponse|choix|verdict|"
    r"respuesta|elección|veredicto|"
    r"resposta|escolha|risposta|scelta)(?:\s+(?:correcta|correta|corretta|correcte|finale?|migliore))?"
    r"(?:\s+(?:est|es|é|è)(?:\s+la)?(?:\s|$)|\s*[:=])",
    r"\b(?:je\s+choisis|elijo|escojo|escolho|scelgo)\b",
    # Russian, Ukrainian, Polish, Czech
    r"(?:ответ|выбор|вердикт|відповідь|вибір|odpowiedź|wybór|odpověď|volba)(?:\s+(?:to|je|jest))?\s*[:=—–-]?",
    r"\b(?:выбираю|обираю|wybieram|vybírám)\b",
    # Greek, Turkish, Vietnamese, Indonesian
    r"(?:απάντηση|επιλογή)(?:\s+είναι(?:\s+(?:η|το))?(?:\s|$)|\s*[:=])|\bεπιλέγω\b",
    r"(?:cevap|yanıt|cevabım|seçimim|karar)(?:\s*[:=]|\s)|(?:đáp\s+án|"
    r"câu\s+trả\s+lời)(?:\s+\S+\s+nhất)?(?:\s+là\b|\s*[:=])",
    r"(?:jawaban|pilihan)(?:\s+\S+)?(?:\s+adalah\b|\s*[:=])|\bchọn\b",
    # Arabic, Hebrew, Persian, Hindi, Thai
    r"(?:الإجابة|الاجابة|الجواب|إجابة|جواب|الاختيار|پاسخ)(?:\s+\S+){0,2}?(?:\s+(?:هي|هو|است))?\s*[:=]?",
    r"(?:התשובה|תשובה|הבחירה)(?:\s+\S+){0,2}?(?:\s+(?:היא|הוא))?\s*[:=]?",
    r"(?:उत्तर|जवाब)(?:\s+है)?\s*[:=]?|(?:คำตอบ|ตอบ)(?:ที่ดีที่สุด|ที่ถูกต้อง)?(?:คือ)?(?:ข้อ)?\s*[:=]?",
    # Chinese, Japanese, Korean
    r"(?:答案|回答|选择|選擇|结论|結論|判断|答え|正解|解答|回答|結論|勝者)(?:应该|應該|应|應)?(?:是|为|為|"
    r"选|選|は|が)?[、，,]?\s*[:=]?",
    r"(?:我)?(?:应该|應該|应|應)?(?:选|選)(?:择|擇)?",
    r"(?:정답|답변|답|선택|결론|승자)\s*(?:은|는|이|가)?\s*[:=]?",
    # Marks
    r"\\boxed\s*\{",
    r"\[\[",
    r"<\s*(?:final[\s_-]?)?(?:answer|choice|verdict|decision|judge?ment|winner|label)\s*>",
)
# What makes a label the subject of a verdict; directly behind the label.
_VERDICT = (
    r"\s+(?:is|wins?|was)(?:\s+(?:clearly|definitely|by\s+far|slightly|much|overall))*"
    r"(?:\s+(?:the\s+)?(?:best|better|winner|correct|superior|strongest|preferable))?(?<!is)(?<!was)\b",
    r"\s+ist\s+(?:die\s+|eindeutig\s+)*(?:beste|besser|richtig)\w*|\s+(?:est|es|é|è)\s+(?:la\s+|a\s+|el\s+)?"
    r"(?:meilleure?|mejor|melhor|migliore)\b",
    r"\s+(?:лучше|лучший|является\s+лучш\w+|кращ\w+|jest\s+lepsz\w+|jest\s+najlepsz\w+)",
    r"\s*(?:是)?(?:最好|更好|最佳|最优|最優|更优|更優|最合适|正确|正確|较好|較好)",
    r"\s*(?:が|の方が|のほうが)(?:最も|一番|より)?(?:良い|良く|よい|いい|優れ|正しい|適切)|\s*(?:を選び|を選択|です)",
    r"\s*(?:가|이)\s*(?:가장|더)\s*(?:좋|낫|우수|나은|정확)|\s*(?:입니다|를\s*선택)",
)
_NAMES = (
    r"(?:the\s+)?(?:answer|option|candidate|response|letter|choice|antwort|option|réponse|respuesta|"
    r"resposta|risposta|opción|"
    r"opção|opzione|ответ|вариант|відповідь|varianta?|سؤال|الخيار|الإجابة|התשובה|उत्तर|विकल्प|ข้อ|đáp án|"
    r"答案|选项|選項|回答|選択肢|보기|답변)"
)
_DECORATION = r"[\s*_`~\"'“”‘’«»「」『』【】()\[\]{}<>$\\#]{0,40}"
_WRAPS = r"(?:\\(?:text|textbf|mathrm|mathbf|boxed)\s*\{)?"
_AND = (
    r"(?:or|and|und|oder|ou|et|o|y|e|и|или|або|та|ή|και|veya|ve|và|hoặc|atau|dan|أو|و|או|ו|या|और|หรือ|และ"
    r"|或者?|和|与|與|か|と|또는|과|와|vs\.?|versus)"
)
_BECAUSE = (
    r"(?:because|since|as|for|due|which|who|that|it|its|in|by|but|with|while|over|here|overall|weil|da|"
    r"denn|parce|car|puisque|"
    r"porque|ya|pois|perché|poiché|потому|так|поскольку|бо|оскільки|ponieważ|bo|protože|çünkü|vì|karena|"
    r"لأن|כי|क्योंकि|เพราะ)"
)


_BLANK, _REPEATED = re.compile(r"\s{3,}"), re.compile(r"([^\w\s])\1{3,}")
_NAME_ALONE = re.compile(rf"[^\w<]*{_NAMES}{_DECORATION}", re.I)


@lru_cache(maxsize=32)
def _patterns(labels: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    one = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    # Letters of scripts without spaces and Korean particles may touch a label; letters of its own kind may not.
    before = r"(?<![0-9A-Za-zÀ-ɏ])(?<![/&+])(?<![A-Za-z]['-])"
    alone = r"(?![0-9A-Za-zÀ-ɏͰ-ӿ])(?!'[A-Za-z])(?![+/&-])"
    named = rf"{_DECORATION}(?:{_NAMES}\s*[:：]?\s*)?{_DECORATION}{before}"
    # Not one of several: no other label follows behind a comma or a word such as "or".
    joined = rf"{_DECORATION}\s*(?:[,、，/&]\s*)?(?:{_AND})?(?:\s|(?<=[或和与與かと과와,、/&]))\s*(?:{_NAMES}\s*)?"
    several = rf"(?!{joined}{_DECORATION}(?:{one}){alone}(?=[\s.,;:!?)\]]|$|\s*{_AND}))"
    label = rf"(?P<label>{one}){alone}"
    # Behind an announced label its sentence ends, or goes on with a reason.
    stop = r"$|<\s*/|[.,;:!?。，、；：！？।؛،—–]|\s[—–-]\s|[^\S\n]*\n|[^\x00-\x7f\sА-яͰ-Ͽא-ۿ]"
    ends = rf"(?=[)\]}}]|{_DECORATION}(?:{stop}|\s+{_BECAUSE}\b))"
    announced = rf"(?:{'|'.join(_ANNOUNCE)}){_DECORATION}{_WRAPS}{named}{label}{several}{ends}"
    verdict = rf"{before}{label}{_DECORATION}(?:{'|'.join(_VERDICT)})"
    # Set off: the text ends, or a mark and space, or a new line follows.
    off = r"(?=[\s*_`\"'”’」』】)\]}$]*(?:$|[.:,;!。、，：；．！）)](?:\s|$|[^\x00-\x7f])|\s[—–-]\s|\n))"
    start = r"(?:\A|(?<=\n)|(?<=[.!?。；;]\s))(?:[-•–]\s)?"
    leading = rf"{start}{_DECORATION}{_WRAPS}{named}{label}{several}{off}"
    with_name = rf"{_NAMES}{_DECORATION}{label}"
    return tuple(re.compile(pattern, re.I) for pattern in (announced, verdict, leading, with_name))


def label_of(text: str, labels: Sequence[str]) -> str | None:
    """The label that a reply names as its answer, or None. `labels` are short and differ in more than case."""
    text = plain_reply(text)
    named = {label.casefold(): label for label in labels}
    if text.casefold() in named:
        return named[text.casefold()]
    announced, verdict, leading, with_name = _patterns(tuple(labels))
    statements = _announced(announced, with_name, text)
    if not statements:
        found = [match["label"] for match in verdict.finditer(text)]
        if not found and (leading.match(text) or _is_last_line(leading, text)):
            found = [match["label"] for match in leading.finditer(text)]
        statements = found if len({label.casefold() for label in found}) == 1 else []
    return named[statements[-1].casefold()] if statements else None


def _announced(announced: re.Pattern[str], with_name: re.Pattern[str], text: str) -> list[str]:
    """The labels that words announce, in order; those behind a name alone only where they cannot be meant otherwise."""
    matches = list(announced.finditer(text))
    clear = [match for match in matches if not _NAME_ALONE.fullmatch(text, match.start(), match.start("label"))]
    if not clear and len({match["label"].casefold() for match in with_name.finditer(text)}) == 1:
        clear = [match for match in matches if not text[match.end() : match.end() + 1].isalnum()]
    return [match["label"] for match in clear]


def _is_last_line(leading: re.Pattern[str], text: str) -> bool:
    """Whether the last line is a label and nothing else."""
    found = leading.match(text, text.rfind("\n") + 1)
    return found is not None and not text[found.end() :].strip(" \t*_`'\"”’」』】)]}$.!。！")


def begins_with_label(text: str, labels: Sequence[str]) -> bool:
    """Whether the first thing a reply says is a label as an answer, and not the beginning of other words."""
    text = plain_reply(text)
    _, verdict, leading, _ = _patterns(tuple(labels))
    named = {label.casefold() for label in labels}
    return text.casefold() in named or bool(leading.match(text) or verdict.match(text.lstrip(OPENING)))


def plain_reply(text: str) -> str:
    """The beginning and end of a reply, full-width and circled letters as plain ones, nothing invisible, no long runs
    of one mark or of space."""
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]}\n…\n{text[-TAIL:]}"
    if not text.isascii():
        text = "".join(_plain(character) for character in IGNORABLE.sub("", text))
    # The patterns below have several places for space and marks side by side: a long run of one takes them powers of
    # its length to get over.
    text = _BLANK.sub(lambda run: "\n\n" if "\n" in run[0] else "  ", text.strip())
    return _REPEATED.sub(r"\1\1\1", text)


def _plain(character: str) -> str:
    folded = unicodedata.normalize("NFKC", character)
    if unicodedata.decomposition(character).startswith(("<wide>", "<circle>", "<font>")) and folded.isascii():
        return folded
    if "\u249c" <= character <= "\u24b5":  # ⒝
        return folded
    return character
