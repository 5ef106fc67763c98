"""Chat templates in the shape of each family's own, written afresh.

What each does with roles, system prompts, thinking, content as parts and the end of a turn is as in the published one;
tools are left out.
"""

# Opens with bos, a system turn with the date even when nobody asks for one, content trimmed.
LLAMA3 = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n' }}
{{- 'Today Date: 26 Jul 2024\\n\\n' + system_message + '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# The system prompt goes into the last user turn, and nowhere once an answer follows it.
_MISTRAL_LAST_USER = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.last and system_message is defined %}
            {{- '[INST]SPACE' + system_message + '\\n\\n' + message['content'] + '[/INST]' }}
        {%- else %}
            {{- '[INST]SPACE' + message['content'] + '[/INST]' }}
        {%- endif %}
    {%- else %}
        {{- 'SPACE' + message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}
"""
MISTRAL_V3 = _MISTRAL_LAST_USER.replace("SPACE", " ")
MISTRAL_NEMO = _MISTRAL_LAST_USER.replace("SPACE", "")

MISTRAL_SMALL = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = 'You are Mistral Small 3, a model. Your knowledge was last updated on 2023-10-01.' %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}
{%- for message in loop_messages %}
    {%- if message['role'] == 'user' %}
        {{- '[INST]' + message['content'] + '[/INST]' }}
    {%- elif message['role'] == 'system' %}
        {{- '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- message['content'] + eos_token }}
    {%- else %}
        {{- raise_exception('Only user, system and assistant roles are supported!') }}
    {%- endif %}
{%- endfor %}
"""

# Text or parts in every turn; the date is today's.
MISTRAL_SMALL_31 = """\
{%- set today = strftime_now('%Y-%m-%d') %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- if messages[0]['content'] is string %}
        {%- set system_message = messages[0]['content'] %}
    {%- else %}
        {%- set system_message = messages[0]['content'][0]['text'] %}
    {%- endif %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = 'You are Mistral Small 3.1, a model. The current date is ' + today + '.' %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}
{%- for message in loop_messages %}
    {%- if message['role'] == 'user' %}
        {%- if message['content'] is string %}
            {{- '[INST]' + message['content'] + '[/INST]' }}
        {%- else %}
            {{- '[INST]' }}
            {%- for block in message['content'] %}
                {%- if block['type'] == 'text' %}{{- block['text'] }}{%- else %}{{- '[IMG]' }}{%- endif %}
            {%- endfor %}
            {{- '[/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- (message['content'] if message['content'] is string else message['content'][0]['text']) + eos_token }}
    {%- else %}
        {{- raise_exception('Only user, system and assistant roles are supported!') }}
    {%- endif %}
{%- endfor %}
"""


def chatml(default_system: str) -> str:
    """ChatML with a system turn of its own where none is given."""
    return f"""\
{{%- if messages[0]['role'] != 'system' %}}
    {{{{- '<|im_start|>system\\n{default_system}<|im_end|>\\n' }}}}
{{%- endif %}}
{{%- for message in messages %}}
    {{{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}
    {{{{- '<|im_start|>assistant\\n' }}}}
{{%- endif %}}
"""


# No default system turn. Thinking of earlier turns is cut out, that of the last one is written, also when it is empty.
_QWEN_THINKING = """\
{%- for message in messages %}
    {%- set content = message['content'] if message['content'] is string else '' %}
    {%- if message['role'] != 'assistant' %}
        {{- '<|im_start|>' + message['role'] + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- else %}
        {%- set reasoning = '' %}
        {%- if message['reasoning_content'] is string %}
            {%- set reasoning = message['reasoning_content'] %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.last %}
            {{- '<|im_start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}
            {{- content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    OPENED
    {%- endif %}
{%- endif %}
"""
QWEN3 = _QWEN_THINKING.replace("    OPENED\n", "")
QWEN35 = _QWEN_THINKING.replace("    OPENED\n", "    {%- else %}\n        {{- '<think>\\n' }}\n")

QWEN25_VL = """\
{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for content in message['content'] %}
            {%- if content['type'] == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif 'text' in content %}{{- content['text'] }}{%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

GEMMA2 = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{{- raise_exception('System role not supported') }}{%- endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}
"""

# The template itself writes the system prompt into the first user turn; content is a text or parts.
GEMMA3 = """\
{{- bos_token }}
{%- set prefix = '' %}
{%- set loop_messages = messages %}
{%- if messages[0]['role'] == 'system' %}
    {%- if messages[0]['content'] is string %}
        {%- set prefix = messages[0]['content'] + '\\n\\n' %}
    {%- else %}
        {%- set prefix = messages[0]['content'][0]['text'] + '\\n\\n' %}
    {%- endif %}
    {%- set loop_messages = messages[1:] %}
{%- endif %}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\\n' + (prefix if loop.first else '') }}
    {%- if message['content'] is string %}
        {{- message['content'] | trim }}
    {%- else %}
        {%- for item in message['content'] %}
            {%- if item['type'] == 'image' %}{{- '<start_of_image>' }}
            {%- elif item['type'] == 'text' %}{{- item['text'] | trim }}{%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}
"""

# Turns are `<|turn>role`; thinking is asked for by a mark in the system turn and is in a channel.
GEMMA4 = """\
{{- bos_token }}
{%- set loop_messages = messages %}
{%- if (enable_thinking is defined and enable_thinking) or messages[0]['role'] in ['system', 'developer'] %}
    {{- '<|turn>system\\n' }}
    {%- if enable_thinking is defined and enable_thinking %}{{- '<|think|>\\n' }}{%- endif %}
    {%- if messages[0]['role'] in ['system', 'developer'] %}
        {{- messages[0]['content'] | trim }}
        {%- set loop_messages = messages[1:] %}
    {%- endif %}
    {{- '<turn|>\\n' }}
{%- endif %}
{%- for message in loop_messages %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<|turn>' + role + '\\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] | trim }}
    {%- else %}
        {%- for item in message['content'] %}
            {%- if item['type'] == 'text' %}{{- item['text'] | trim }}{%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<turn|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|turn>model\\n' }}{%- endif %}
"""

# Without a generation prompt a conversation ends with the end-of-text token, behind the end of its last turn.
PHI3 = """\
{%- for message in messages %}
    {%- if message['role'] == 'system' and message['content'] %}
        {{- '<|system|>\\n' + message['content'] + '<|end|>\\n' }}
    {%- elif message['role'] == 'user' %}
        {{- '<|user|>\\n' + message['content'] + '<|end|>\\n' }}
    {%- elif message['role'] == 'assistant' %}
        {{- '<|assistant|>\\n' + message['content'] + '<|end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- else %}{{- eos_token }}{%- endif %}
"""

PHI4 = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant<|im_sep|>' }}{%- endif %}
"""

# Harmony: a system turn about channels, the user's system prompt as the developer's; <|return|> ends the last answer.
GPT_OSS = """\
{{- '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\\n' }}
{{- 'Knowledge cutoff: 2024-06\\nCurrent date: ' + strftime_now('%Y-%m-%d') + '\\n\\n' }}
{{- 'Reasoning: ' + (reasoning_effort if reasoning_effort is defined else 'medium') + '\\n\\n' }}
{{- '# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>' }}
{%- set loop_messages = messages %}
{%- if messages[0]['role'] in ['system', 'developer'] %}
    {{- '<|start|>developer<|message|># Instructions\\n\\n' + messages[0]['content'] + '\\n\\n<|end|>' }}
    {%- set loop_messages = messages[1:] %}
{%- endif %}
{%- for message in loop_messages %}
    {%- if message['role'] == 'assistant' %}
        {%- if '<|channel|>analysis<|message|>' in message['content'] %}
            {{- raise_exception('You have passed a message containing <|channel|> tags in the content field.') }}
        {%- endif %}
        {%- if loop.last and not add_generation_prompt %}
            {%- if message['thinking'] %}
                {{- '<|start|>assistant<|channel|>analysis<|message|>' + message['thinking'] + '<|end|>' }}
            {%- endif %}
            {{- '<|start|>assistant<|channel|>final<|message|>' + message['content'] + '<|return|>' }}
        {%- else %}
            {{- '<|start|>assistant<|channel|>final<|message|>' + message['content'] + '<|end|>' }}
        {%- endif %}
    {%- else %}
        {{- '<|start|>user<|message|>' + message['content'] + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}
"""

# The prompt opens the thinking; a conversation has the answer alone, whatever was thought before it.
R1_DISTILL = """\
{%- set ns = namespace(system_prompt='') %}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}{%- set ns.system_prompt = message['content'] %}{%- endif %}
{%- endfor %}
{{- bos_token }}{{- ns.system_prompt }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- '<｜User｜>' + message['content'] }}
    {%- elif message['role'] == 'assistant' %}
        {%- set content = message['content'] %}
        {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}
        {{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<｜Assistant｜><think>\\n' }}{%- endif %}
"""

# A system turn with the date where none is given; `thinking` changes it, the answer then has two blocks.
GRANITE = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = 'Knowledge Cutoff Date: April 2024.\\nToday\\'s Date: ' + strftime_now('%B %d, %Y') %}
    {%- set system_message = system_message + '.\\nYou are Granite, developed by IBM.' %}
    {%- if thinking %}
        {%- set system_message = system_message + ' Write your thoughts between <think></think> and write your '
            'response between <response></response> for each user query.' %}
    {%- endif %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>\\n' }}
{%- for message in loop_messages %}
    {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' }}
    {%- if loop.last and add_generation_prompt %}
        {{- '<|start_of_role|>assistant' }}{{- '<|end_of_role|>' }}
    {%- endif %}
{%- endfor %}
"""

# Begins with the token that also ends it; a line break only between turns.
OLMO2 = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- '<|assistant|>\\n' + message['content'] + eos_token }}{%- if not loop.last %}{{- '\\n' }}{%- endif %}
    {%- else %}
        {{- '<|' + message['role'] + '|>\\n' + message['content'] + '\\n' }}
    {%- endif %}
    {%- if loop.last and add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}
{%- endfor %}
"""

OLMO3 = """\
{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are Olmo, a helpful AI assistant built by Ai2.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- '<|im_start|>assistant\\n' + message['content'] }}
        {%- if loop.last %}{{- eos_token }}{%- else %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
    {%- endif %}
    {%- if loop.last and add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
{%- endfor %}
"""
OLMO3_THINK = OLMO3.replace(
    "'<|im_start|>assistant\\n' }}{%- endif %}\n{%- endfor",
    "'<|im_start|>assistant\\n<think>' }}{%- endif %}\n{%- endfor",
)

# Says in the system turn whether it thinks; the date is today's. Answers carry an empty block of thinking.
SMOLLM3 = """\
{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}
{%- set mode = '/think' if enable_thinking else '/no_think' %}
{%- set custom = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face.' %}
{%- if messages[0]['role'] == 'system' %}
    {%- set custom = messages[0]['content'].replace('/no_think', '').replace('/think', '').rstrip() %}
    {%- if '/no_think' in messages[0]['content'] %}{%- set mode = '/no_think' %}{%- endif %}
{%- endif %}
{{- '<|im_start|>system\\n## Metadata\\n\\nKnowledge Cutoff Date: June 2025\\nToday Date: ' }}
{{- strftime_now('%d %B %Y') + '\\nReasoning Mode: ' + mode + '\\n\\n' }}
{{- '## Custom Instructions\\n\\n' + custom + '\\n\\n' }}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- set content = message['content'] if message['content'] is string else '' %}
    {%- if message['role'] == 'user' %}
        {{- '<|im_start|>user\\n' + content + '<|im_end|>\\n' }}
    {%- elif message['role'] == 'assistant' %}
        {%- if mode == '/think' %}
            {{- '<|im_start|>assistant\\n' + content.lstrip('\\n') + '<|im_end|>\\n' }}
        {%- else %}
            {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n' + content.lstrip('\\n') + '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {%- if mode == '/think' %}{{- '<|im_start|>assistant\\n' }}
    {%- else %}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n' }}{%- endif %}
{%- endif %}
"""

COHERE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- set role = {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'}[message['role']] %}
    {{- '<|START_OF_TURN_TOKEN|><|' + role + '_TOKEN|>' + message['content'] | trim + '<|END_OF_TURN_TOKEN|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{%- endif %}
"""

# Content is a list of parts, also of an answer; a plain text is dropped without a word.
IDEFICS3 = """\
{{- '<|im_start|>' }}
{%- for message in messages %}
    {{- message['role'] | capitalize + ':' }}
    {%- if message['content'][0]['type'] != 'image' %}{{- ' ' }}{%- endif %}
    {%- for line in message['content'] %}
        {%- if line['type'] == 'text' %}{{- line['text'] }}
        {%- elif line['type'] == 'image' %}{{- '<image>' }}{%- endif %}
    {%- endfor %}
    {{- '<end_of_utterance>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}
"""
