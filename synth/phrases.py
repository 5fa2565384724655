"""
What language models say of themselves and of their task, and no query, passage or sentence of a corpus does.

Looked for in folded text: lower case, full-width forms narrow, each run of white space one space, straight quotes.
"""

import re

_OF_THE_TASK = (
    r"(?:quer(?:y|ies)|questions?|rewrit\w+|paraphras\w+|rephras\w+|(?:new |revised )?versions?|passages?|examples?"
    r"|samples|json|hard negatives?|summary|summaries)\b"
)
_PARTS = (
    # what goes before an answer
    rf"^(?:here(?:'s| is| are)|below (?:is|are)|the following (?:is|are))\b[^.!?]{{0,40}}\b{_OF_THE_TASK}",
    r"^(?:sure|certainly|absolutely|of course)(?:!|, |\. (?:here|i|below)\b)",
    r"^\W*(?:search query|query|rewriting|rewritten(?: \w+)?|rewrite|paraphrased?(?: \w+)?|hard negative"
    r"|(?:version|option|variant|question|passage|sentence|text|example) \d+)\W{0,2}\d*\W{0,2}: ",
    # refusals
    r"\bas an? (?:ai|artificial intelligence|large)(?: language)? (?:model|assistant|system|chatbot)\b",
    r"\bas a language model\b|^as an ai\b|\bas an ai,? i\b",
    r"\bi(?:'m| am) (?:just |only )?an? (?:ai|(?:large )?language model|virtual assistant)\b",
    r"\bi(?:'m| am) (?:very |so )?(?:sorry|afraid),?(?: but)?,?(?: that)? i (?:can't|cannot|can not|won't|must"
    r"|am (?:unable|not able)) ?(?:to )?(?:assist|help|comply|fulfil|provide|generate|create|write|rewrite"
    r"|paraphrase|rephrase|answer|do|continue|decline|produce)",
    r"\bi (?:apologi[sz]e|must decline)\b[^.]{0,40}\b(?:cannot|can't|unable|confusion|misunderstanding|request)\b",
    r"\bi(?:'m| am)? (?:can't|cannot|unable to|not able to|won't) (?:assist|comply|rewrite|paraphrase|rephrase"
    r"|(?:help|fulfill?|complete|answer)(?: you)?(?: with)? (?:that|this|your|the) (?:request|task|question|prompt))\b",
    r"\b(?:violates?|against) (?:my|our|openai's) (?:\w+ )?(?:policy|policies|guidelines|programming)\b",
    r"\bmy (?:training data|knowledge cut-?off)\b",
    r"\bi (?:don't|do not) have (?:real-time|personal (?:opinions|experiences|feelings)|the ability to (?:browse"
    r"|access))",
    r"\bplease (?:provide|share|paste|send)(?: me)?(?: with)? the (?:text|passage|query|original|sentence)\b",
    # what goes after an answer
    r"\bi hope (?:this|these|that|it) (?:helps|is helpful|are helpful|meets?|works for you)\b",
    r"\blet me know if (?:you(?:'d| would)? (?:like|need|want|have)|there(?:'s| is| are) any|i can)\b",
    r"\bfeel free to (?:ask|adjust|modify|let me know)\b|\bwould you like me to\b|\bis there anything else i can\b",
    r"[(\[*]?note: (?:i |all facts|this (?:rewrit|version|passage)|the (?:rewrit|meaning|original|passage|query"
    r"|above))",
    r"\((?:about |approx(?:imately|\.)? |~)?\d+ (?:words|characters)\)$|\b(?:word|character) count: ?\d",
    r"\[(?:insert|your name|company name|placeholder|rest of|same as|continue)[^\]]{0,40}\]"
    r"|\b(?:rest|remainder) of the (?:passage|text) (?:remains?|is) (?:unchanged|the same)\b",
    # talk of the task
    r"\b(?:the|this|given|above|provided|original) (?:passage|excerpt|paragraph)\b(?! (?:of|to|from|through)\b)",
    r"\baccording to (?:the|this) (?:text|article|document|author)\b",
    r"\b(?:original|rewritten|paraphrased|rephrased|rewording of the) (?:text|sentence|query|question)\b",
    r"\b(?:rewritten|paraphrased|rephrased) (?:version|passage)\b|\bhard[- ]negatives? (?:passage|example)\b",
    r"\bdoes(?:n't| not) (?:directly |fully |actually |really )?(?:answer|address) the (?:query|question)\b"
    r"|\b(?:answers?|relevant to|unlike) the query\b",
    r"\b(?:ignor(?:e|ing)|disregard(?:ing)?) (?:all |any |the |your )*(?:previous|above|prior|preceding|earlier)"
    r" (?:\w+ )?(?:instructions?|rules|prompts?|text)\b",
    # Chinese, both scripts
    r"作[为為]一?[个個名款位]?(?:ai|人工智[能慧]|大?(?:型)?[语語]言模型|智能助手)",
    r"^(?:[问問][题題]|查[询詢]|段落|句子|文本)[一二三四五\d]*:|^(?:以下|下面)是",
    r"^(?:好的|[当當]然|[没沒][问問][题題]|明白了?|收到)(?:可以)?[,!。] ?"
    r"(?:以下|下面|[这這]是|我[来來会會]|改|重[写寫]|根|[为為][您你])",
    r"(?:抱歉|[对對]不起|很[遗遺]憾|不好意思)[,!。 ]{0,2}(?:但是?)?(?:我|本助手|本模型)"
    r"(?:[无無]法|不能|[没沒]有?[办辦]?法)",
    r"我(?:[无無]法|不能)(?:提供|[协協]助|完成|[满滿]足|生成|改[写寫]|回答)(?:[您你][的]?|[这這][个個]?|[该該此])",
    r"希望(?:[这這]|以上)[^。]{0,12}(?:[帮幫]助|[满滿]意|有用|符合)|希望[对對][您你]有所?[帮幫]助",
    r"(?:如果|若|如)[您你]?[还還有]?[^。]{0,6}(?:其他|任何|更多)(?:[问問][题題]|需[求要])[^。]{0,8}(?:告[诉訴]我|提出|[随隨][时時])",
    r"(?:改[写寫]|重[写寫]|[转轉]述|[释釋][义義])(?:后|後)?(?:如下|版本|[结結]果|的?(?:文本|句子|段落|查[询詢])|[一二三四五\d]*:)",
    r"[根依][据據](?:上文|本文|[该該]文|文章|以上|[这這]段|上述|所[给給]|原文)",
    r"[这這](?:段|篇)(?:文字|文章|文本|短文|[话話])|(?:上述|以上|[该該]|本)(?:段落|段文字|篇文章)|原文(?:中|如下|提到|:)",
    r"(?:查[询詢]|正[样樣]本|[负負][样樣]本|[负負]例)[一二三四五\d]*:|\((?:共|[约約])?\d+个?字\)",
    r"(?:忽略|[无無][视視])(?:以上|上述|之前|前面|上面)(?:的)?(?:所有|一切|全部)?(?:指令|指示|要求|[规規][则則]|[内內]容)",
    # what is no text
    r"```|</?think>|<\|\w+\|>|\[/?inst\]|</s>|-----\ (?:text|passage)\ [0-9a-f]{8}",
    r'^[\[{]\s*["{\[]|"queries"|"\s*:\s*["\[{]|\\n\\n',
)
PHRASES = re.compile("|".join(_PARTS))
