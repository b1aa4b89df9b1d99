"""The judge `rules` accepts the same words only; every judge is opened by its name."""

import hashlib
import json

import onnx.parser
import pytest

from memo import BadSetup
from memo.judge.evaluation import score_pairs
from memo.judge.factory import open_judge
from memo.judge.learned import CARD, LearnedJudge
from memo.judge.llm import BEDROCK_DEFAULT, LanguageJudge
from memo.judge.rules_judge import RulesJudge
from tests.real import ROOT

TEXT = ROOT / "var" / "text"
judge = RulesJudge()


@pytest.mark.parametrize(
    ("remembered", "wanted"),
    [
        ("a red fox in the snow", "A red fox in snow"),
        ("a red fox in the snow", "red fox, in the snow, please"),
        ("the dog's ball", "dog's ball"),
        ("a gray cat", "a grey cat"),
    ],
)
def test_the_same_words_fit_with_full_confidence(remembered, wanted):
    [verdict] = judge(wanted, [remembered])
    assert verdict.fits and verdict.confidence == 1.0 and repr(remembered) in verdict.reason


@pytest.mark.parametrize(
    ("remembered", "wanted", "expected"),
    [
        (
            "a red fox in the snow",
            "a blue fox in the snow",
            "the remembered prompt 'a red fox in the snow' says 'red', not 'blue'",
        ),
        ("three dogs", "two dogs", "asks for 3, not 2"),
        ("a dog chases a cat", "a cat chases a dog", "has the same words in another order or number"),
        ("a cat on a mat", "a cat beside a mat", "says 'on', not 'beside'"),
        ("a cat", "a cat and a dog", "does not mention 'dog'"),
        ("a cat with a hat", "a cat", "mentions 'hat', which the new prompt does not"),
        ("a cat with a hat", "a hat with a cat on it", "does not mention 'it' and 'on'"),
        ("a train", "a sketch of a train", "does not ask for a sketch"),
        ("a room with no chairs", "a room with chairs", "'no'"),
        ("a kitten", "a young cat", "says 'kitten', not 'cat' and 'young'"),
    ],
)
def test_different_words_do_not_fit_and_the_reason_names_them(remembered, wanted, expected):
    [verdict] = judge(wanted, [remembered])
    assert not verdict.fits and verdict.confidence == 0.0 and expected in verdict.reason


def test_each_remembered_prompt_gets_its_own_verdict_in_order():
    verdicts = judge("a red fox", ["a blue fox", "red fox", "a red fox cub"])
    assert [verdict.fits for verdict in verdicts] == [False, True, False]
    for expected, verdict in zip(("blue", "same", "cub"), verdicts, strict=True):
        assert expected in verdict.reason
    assert judge("a red fox", []) == []


def test_pairs_are_scored_as_remembered_and_wanted():
    questions = []
    language_judge = LanguageJudge("any", lambda task, question: str(questions.append(json.loads(question))))
    pairs = [("a fox", "fox"), ("a fox", "two dogs, then three dogs"), ("a kitten", "a young cat")]
    assert score_pairs(language_judge, pairs) == [(1.0, True), (0.0, False), (0.0, False)]
    assert questions[-1] == {"painted": [{"number": 1, "prompt": "a kitten"}], "new prompt": "a young cat"}


NETWORK = """<ir_version: 9, opset_import: ["": 17]>
judge (float[m, t, 4, 384] states, bool[m, t] real, int64[n] a, int64[n] b) => (float[n] logits)
<float bias = {BIAS}, float none = {0}, int64[3] axes = {1, 2, 3}> {
    remembered = Gather <axis = 0> (states, a)
    sums = ReduceSum <keepdims = 0> (remembered, axes)
    nothing = Mul(sums, none)
    logits = Add(nothing, bias)
}"""


def learned_folder(folder, bias):
    """A folder like the shipped judge's, with one network whose logit is `bias` for every pair."""
    data = onnx.parser.parse_model(NETWORK.replace("BIAS", str(bias))).SerializeToString()
    (folder / "one.onnx").write_bytes(data)
    card = {"slope": 1.0, "offset": 0.0, "threshold": 0.5, "false_hits": 0.01}
    (folder / CARD).write_text(json.dumps({"files": {"one.onnx": hashlib.sha256(data).hexdigest()}, **card}))
    return folder


@pytest.mark.parametrize(("bias", "fits"), [(2.0, True), (-2.0, False)])
def test_a_learned_judge_is_opened_from_its_folder(tmp_path, bias, fits):
    learned = open_judge(f"learned:{learned_folder(tmp_path, bias)}", TEXT)
    assert isinstance(learned, LearnedJudge) and learned.name.startswith("learned-")
    assert [verdict.fits for verdict in learned("a young cat", ["a kitten", "no cat"])] == [fits, False]


def test_the_learned_judge_without_a_folder_is_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setattr("memo.judge.factory.SHIPPED", learned_folder(tmp_path, 2.0))
    assert open_judge("learned", TEXT).name == open_judge(f"learned:{tmp_path}", TEXT).name


def test_a_missing_or_altered_learned_judge_is_refused(tmp_path):
    with pytest.raises(BadSetup, match="there is no judge in .*nowhere"):
        open_judge(f"learned:{tmp_path / 'nowhere'}", TEXT)
    (learned_folder(tmp_path, 2.0) / "one.onnx").write_bytes(b"other")
    with pytest.raises(BadSetup, match=r"one\.onnx is not the network"):
        open_judge(f"learned:{tmp_path}", TEXT)


def test_language_models_are_opened_by_url_or_bedrock_id(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    names = {
        "llm:http://127.0.0.1:1/v1#llama": "llm:llama",
        "llm:http://127.0.0.1:1/v1": "llm:127.0.0.1",
        "bedrock:some.model-v1:0": "bedrock:some.model-v1:0",
        "bedrock:": f"bedrock:{BEDROCK_DEFAULT}",
        "bedrock": f"bedrock:{BEDROCK_DEFAULT}",
    }
    judges = {spec: open_judge(spec, TEXT) for spec in names}
    assert {spec: opened.name for spec, opened in judges.items()} == names
    assert all(isinstance(opened, LanguageJudge) for opened in judges.values())


def test_the_rules_judge_needs_no_text_model(tmp_path):
    assert isinstance(open_judge("rules", tmp_path), RulesJudge)


@pytest.mark.parametrize("spec", ["strict", "", "rules:more", "Rules", "cross-encoder", "cross-encoder:", "gpt:4"])
def test_an_unknown_judge_is_refused_and_the_known_ones_are_listed(spec):
    with pytest.raises(
        BadSetup, match=f"the judge '{spec}' is unknown; choose one of learned, .*rules.*bedrock:MODEL"
    ):
        open_judge(spec, TEXT)


@pytest.mark.parametrize("spec", ["llm", "llm:", "llm:llama", "llm:ftp://host/v1", "llm:http://host:port/v1"])
def test_a_language_model_without_a_url_is_refused(spec):
    with pytest.raises(BadSetup, match="llm:"):
        open_judge(spec, TEXT)


@pytest.mark.parametrize("key", ["two words", "line\n", "schlüssel"])
def test_a_key_that_fits_no_header_is_refused_without_quoting_it(key):
    with pytest.raises(BadSetup, match="character") as refused:
        open_judge("llm:http://127.0.0.1:1/v1", TEXT, key)
    assert key.strip() not in str(refused.value)


def test_bedrock_without_a_region_is_refused(tmp_path, monkeypatch):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(BadSetup, match="bedrock:some-model cannot be opened.*region"):
        open_judge("bedrock:some-model", TEXT)


def test_a_missing_cross_encoder_is_refused(tmp_path):
    with pytest.raises(BadSetup, match="no-such"):
        open_judge(f"cross-encoder:{tmp_path}/no-such", TEXT)
