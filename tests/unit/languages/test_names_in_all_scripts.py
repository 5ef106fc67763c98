"""Names of domains in any script: what a name is, when two are one, and the grammar that lets models write them."""

import asyncio
import re

import pytest
from fakes import ScriptedModels
from hypothesis import given, settings
from hypothesis import strategies as st

from bohdi_ray.config import FusionConfig, TreeConfig
from bohdi_ray.engines.prompts import parse_name
from bohdi_ray.errors import ConfigError
from bohdi_ray.harvest.plan import HarvestPlan
from bohdi_ray.harvest.sprout import sprout
from bohdi_ray.languages.name_grammar import any_initials, initial_groups, name_regex, name_scripts
from bohdi_ray.languages.names import name_key
from bohdi_ray.records import Proposals, SproutRequest
from bohdi_ray.tree.manager import TreeManager
from bohdi_ray.tree.names import read_seeds, seed_paths, valid_name

NAMES = {
    "English": ("quantum FIELD theory", "Quantum Field Theory"),
    "German": ("angewandte strömungslehre", "Angewandte Strömungslehre"),
    "German, ß": ("straßenbau", "Straßenbau"),
    "French": ("MÉDECINE générale", "Médecine Générale"),
    "Turkish": ("İSTATİSTİK", "İstatistik"),
    "Turkish, dotless": ("ısı iletimi", "Isı Iletimi"),
    "Dutch": ("ijstijden", "Ijstijden"),
    "Vietnamese": ("cơ học lượng tử", "Cơ Học Lượng Tử"),
    "Vietnamese, decomposed": ("co\u031b ho\u0323c", "Cơ Học"),
    "Russian": ("КВАНТОВАЯ механика", "Квантовая Механика"),
    "Ukrainian": ("комп'ютерні науки", "Комп\u02bcютерні Науки"),
    "Greek": ("ΚΒΑΝΤΙΚΗ ΦΥΣΗΣ", "Κβαντικη Φυσης"),
    "Georgian": ("ფიზიკა", "ფიზიკა"),
    "Arabic": ("فيزياء الكم", "فيزياء الكم"),
    "Persian": ("نرم\u200cافزار", "نرم افزار"),
    "Hebrew": ("מכניקת הקוונטים", "מכניקת הקוונטים"),
    "Hebrew, pointed": ("שִׁירָה", "שִׁירָה"),
    "Hindi": ("क्वांटम भौतिकी", "क्वांटम भौतिकी"),
    "Bengali": ("পদার্থবিজ্ঞান", "পদার্থবিজ্ঞান"),
    "Tamil": ("குவாண்டம் இயற்பியல்", "குவாண்டம் இயற்பியல்"),
    "Sinhala": ("ශ්\u200dරී ලංකා ඉතිහාසය", "ශ්රී ලංකා ඉතිහාසය"),
    "Thai": ("กลศาสตร์ควอนตัม", "กลศาสตร์ควอนตัม"),
    "Thai, AM": ("น้ำ", "น้ำ"),
    "Tibetan": ("དངོས་ཁམས་ཚན་རིག", "དངོས་ཁམས་ཚན་རིག"),
    "Khmer": ("រូបវិទ្យា", "រូបវិទ្យា"),
    "Chinese": ("量子场论", "量子场论"),
    "Chinese and Latin": ("DNA修复", "Dna修复"),
    "Japanese": ("量子コンピューティング", "量子コンピューティング"),
    "Japanese, half width": ("ｶﾞﾗｽ工芸", "ガラス工芸"),
    "Japanese, middle dot": ("データ・サイエンス", "データ サイエンス"),
    "Korean": ("양자 역학", "양자 역학"),
    "Amharic": ("ፊዚክስ", "ፊዚክስ"),
}
FILLERS = (
    "未知 其他 その他 不明 unbekannt SONSTIGES inconnu desconocido неизвестно Другое أخرى אחר अज्ञात ไม่ทราบ 기타 "
    "bilinmeyen Άγνωστο"
)
NO_NAMES = {
    "a sentence in Chinese": "量子场论是物理学的一个重要的分支学科之一",
    "a sentence in Thai": "ฟิสิกส์ควอนตัมเป็นสาขาหนึ่งของวิทยาศาสตร์ธรรมชาติที่สำคัญ",
    "four words": "истинная природа вещей вообще",
    "seven syllables": "cơ học lượng tử và ứng dụng",
    "Cyrillic among Latin": "Рhysics",
    "Greek among Latin": "Οptics",
    "a zero-width space": "物\u200b理",
    "a joiner between Latin letters": "Phys\u200dics",
    "a joiner at the end": "نرم\u200c",
    "direction of writing": "\u202eفيزياء",
    "an isolate": "\u2067פיזיקה\u2069",
    "a filler of Hangul": "물\u3164리",
    "Khmer vowels that show as nothing": "រ\u17b4ប",
    "a variation selector": "物\ufe00理",
    "marks on marks": "a\u0301\u0302\u0303\u0304\u0306\u0307",
    "a mark first": "\u093eम",
    "ideographic punctuation": "物理、化学",
    "an emoji": "物理🧪",
    "digits": "物理２",
    "a number in a circle": "①物理",
    "a tag": "物理<br>",
    "a slash": "物理/化学",
    "nothing but a joiner": "\u200c",
    "tatweel and nothing": "",
}


@pytest.mark.parametrize("language", NAMES)
def test_a_name_in_any_script_is_one_in_title_case(language):
    text, name = NAMES[language]
    assert valid_name(text) == name and valid_name(name) == name
    assert valid_name(parse_name(f"3. {text}\n")) == name


@pytest.mark.parametrize("what", NO_NAMES)
def test_what_is_no_name_in_any_script(what):
    assert valid_name(NO_NAMES[what]) is None


@pytest.mark.parametrize("text", FILLERS.split())
def test_fillers_of_many_languages_are_no_names(text):
    assert valid_name(text) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "STRASSE"),
        ("Istanbul", "İSTANBUL"),
        ("Isı", "ISI"),
        ("Φύσης", "ΦΎΣΗΣ"),
        ("ガラス", "ｶﾞﾗｽ"),
        ("کتاب", "کتـاب"),
        ("Ijsland", "IJSLAND"),
        ("ﬁlm", "Film"),
    ],
)
def test_spellings_of_one_name_are_one(one, other):
    first, second = valid_name(one), valid_name(other)
    assert first and second and name_key(first) == name_key(second)


def test_a_starting_domain_in_another_spelling_occurs_twice():
    assert seed_paths(read_seeds("{科学: [物理, 化学]}"), TreeConfig()) == [
        ("科学",),
        ("科学", "物理"),
        ("科学", "化学"),
    ]
    with pytest.raises(ConfigError, match="occurs twice"):
        seed_paths(read_seeds("{Bau: [Straße, STRASSE]}"), TreeConfig())


def config(**sections) -> FusionConfig:
    model = {"kind": "vllm", "model": "./m"}
    sources = [{"name": name, **model} for name in ("alpha", "beta", "gamma")]
    return FusionConfig.model_validate(
        {"run_dir": "/x", "sources": sources, "target": {"name": "student", **model}, **sections}
    )


def test_votes_for_two_spellings_are_votes_for_one_name_and_the_other_is_taken():
    manager = TreeManager(config(tree={"depth": 1}, meditation={"steps": 1, "walks_per_step": 12}))
    while (work := manager.work(0)).sprouts:
        names = ("Optik", "Optik", "Straße", "Strasse", "Strasse", "物理")
        manager.propose(Proposals(work.sprouts[0].request_id, names, 0, 1))
    children = {child.name for child in manager.tree.root.arms.children}
    assert children <= {"Strasse", "Optik", "物理"} and "Straße" not in children and "Strasse" in children


# The grammar.

PROMPTS = {
    "English": "List twenty different topics of Physics, each of one to three words.",
    "English with a dash": "List twenty topics – no more.",
    "German": "Nenne zwanzig verschiedene Gebiete der Physik, jedes für sich.",
    "Russian": "Назовите двадцать тем.",
    "Greek": "Γράψε είκοσι θέματα.",
    "Arabic": "اذكر عشرين موضوعا.",
    "Hebrew": "רשום עשרים נושאים.",
    "Hindi": "बीस विषय लिखिए।",
    "Tamil": "இருபது தலைப்புகள் எழுதுக.",
    "Thai": "ระบุหัวข้อยี่สิบหัวข้อ",
    "Chinese": "列出二十个主题，每个名称一到三个词。",
    "Japanese": "トピックを二十挙げてください。",
    "Korean": "주제를 스무 개 나열하세요.",
    "Vietnamese": "Liệt kê hai mươi chủ đề của vật lý.",
}
WRITTEN = {
    "English": "Quantum Field Theory",
    "English with a dash": "Optics",
    "German": "Überschallströmung",
    "Russian": "Квантовая механика",
    "Greek": "Κβαντική φυσική",
    "Arabic": "فيزياء الكم",
    "Hebrew": "מכניקת הקוונטים",
    "Hindi": "क्वांटम भौतिकी",
    "Tamil": "இயற்பியல்",
    "Thai": "กลศาสตร์ควอนตัม",
    "Chinese": "量子场论",
    "Japanese": "量子コンピューティング",
    "Korean": "양자 역학",
    "Vietnamese": "Cơ học lượng tử",
}


def grammar_of(prompt: str) -> str:
    scripts = name_scripts(prompt)
    return name_regex(4, any_initials(scripts) if scripts else "A-Z")


@pytest.mark.parametrize("language", PROMPTS)
def test_the_grammar_takes_names_in_the_scripts_of_the_prompt_and_in_latin(language):
    grammar = grammar_of(PROMPTS[language])
    for name in (WRITTEN[language], "Optics"):
        assert re.fullmatch(grammar, f"4. {name}\n") and valid_name(parse_name(f"4. {name}\n"))
    assert not re.fullmatch(grammar, f"4. {WRITTEN[language]} 2\n")
    assert not re.fullmatch(grammar, WRITTEN[language])


@pytest.mark.parametrize("language", ["English", "English with a dash"])
def test_under_a_prompt_in_ascii_names_are_of_ascii_letters_as_ever(language):
    assert grammar_of(PROMPTS[language]) == r"4\. [A-Z][A-Za-z]{1,15}( [A-Za-z]{2,16}){0,2}[:.,\n]?"


@pytest.mark.parametrize("language", sorted(PROMPTS.keys() - {"English", "English with a dash"}))
def test_what_the_grammar_lets_through_is_a_name_by_the_rule(language):
    """Or too long for one, a filler, or a mark on its own: nothing but letters and marks of the prompt's scripts."""

    @settings(max_examples=25, deadline=None)
    @given(st.from_regex(grammar_of(PROMPTS[language]), fullmatch=True))
    def check(text):
        bare = text.removeprefix("4. ").rstrip(":.,。，、：\n")
        name = valid_name(parse_name(text))
        bare = re.sub("^(?:the|an?) ", "", bare, flags=re.I)
        assert name is None or name_key(name) == name_key(valid_name(bare) or "")
        assert all(c == " " or c.isalpha() or not c.isascii() for c in bare)

    check()


@pytest.mark.parametrize(
    "script", ["LATIN", "CYRILLIC", "GREEK", "HAN", "HANGUL", "KANA", "DEVANAGARI", "THAI", "ARABIC"]
)
def test_initials_of_a_script_are_many_groups_that_share_nothing(script):
    groups = initial_groups(script)
    assert len(groups) >= 15
    everything = "".join(chr(code) for code in range(0x41, 0x10000) if not 0xD800 <= code < 0xE000)
    seen = [set(re.findall(f"[{group}]", everything)) for group in groups]
    assert all(seen) and sum(map(len, seen)) == len(set().union(*seen))


def test_in_later_elections_other_scripts_too_begin_with_half_of_their_letters():
    plan, regexes = HarvestPlan.from_config(config(sprout={"proposals_per_source": 1})), set()
    for election in range(4):
        models = ScriptedModels()
        request = SproutRequest(f"sprout/科学/{election}", ("科学",), election, False)
        asyncio.run(sprout(request, models, plan))
        ((regex,),) = [{one.regex for _, one in models.requests}]
        regexes.add(regex)
        firsts = [chr(code) for code in range(0x4E00, 0xA000, 41)]
        taken = sum(bool(re.fullmatch(regex, f"1. {c}学")) for c in firsts)
        assert taken == len(firsts) if election == 0 else 0.4 < taken / len(firsts) < 0.6
    assert len(regexes) == 4


def test_sources_that_write_chinese_grow_a_chinese_tree():
    models, plan = ScriptedModels(), HarvestPlan.from_config(config())
    for text in (
        "1. 量子力学\n",
        "2. 光学。",
        "3. 「热力学」",
        "4. 其他",
        "5. 量子场论是物理学的一个重要的分支学科之一",
    ):
        models.queue_completion(model="alpha", role="sprout", text=text)
    proposals = asyncio.run(sprout(SproutRequest("sprout/科学/0", ("科学",), 0, False), models, plan))
    assert proposals.names[:3] == ("量子力学", "光学", "热力学") and proposals.num_invalid == 2
