"""The grammar of names in every script is one that vLLM's structured outputs compile and mask by."""

import pytest

from bohdi_ray.languages.name_grammar import any_initials, name_regex, name_scripts

# A prompt, a name that its grammar takes and a text that it does not.
CASES = {
    "English": ("List twenty topics of Physics.", "Quantum Field Theory", "量子场论"),
    "German": ("Nenne zwölf Gebiete.", "Überschallströmung", "Web 2"),
    "Russian": ("Назовите двадцать тем.", "Квантовая механика", "квант"),
    "Arabic": ("اذكر عشرين موضوعا.", "فيزياء الكم", "فيزياء 2"),
    "Hindi": ("बीस विषय लिखिए।", "क्वांटम भौतिकी", "भौतिकी 2"),
    "Thai": ("ระบุหัวข้อยี่สิบหัวข้อ", "กลศาสตร์ควอนตัม", "แสง!แสง"),
    "Chinese": ("列出二十个主题。", "量子场论", "量子场论是物理学的一个重要的分支"),
    "Japanese": ("トピックを二十挙げてください。", "量子コンピューティング", "量子、光学"),
    "Korean": ("주제를 나열하세요.", "양자 역학", "양자 역학의 기초 이론 몇 가지"),
    "Vietnamese": ("Liệt kê hai mươi chủ đề.", "Cơ học lượng tử", "Cơ học 2"),
}


@pytest.mark.parametrize("language", CASES)
def test_xgrammar_takes_the_grammar_of_names(language):
    import xgrammar
    from xgrammar.testing import _is_grammar_accept_string

    prompt, name, none = CASES[language]
    scripts = name_scripts(prompt)
    grammar = xgrammar.Grammar.from_regex(name_regex(7, any_initials(scripts) if scripts else "A-Z"))
    assert _is_grammar_accept_string(grammar, f"7. {name}\n")
    assert not _is_grammar_accept_string(grammar, f"7. {none}\n")
