"""A judge tells how much of a picture two prompts share if one of its networks has an output for it."""

import math

import onnxruntime
import pytest
from onnx import TensorProto, helper

from memo.judge.learned import Card, LearnedJudge
from memo.judge.port import find_shares_judge
from memo.judge.rules_judge import RulesJudge
from memo.onnx_embedder import open_onnx
from tests.real import ROOT

OPSET = 17


def network(*outputs: str) -> onnxruntime.InferenceSession:
    """A network whose logit is the number of tokens of the remembered prompt, minus 8."""
    nodes = [
        helper.make_node("Gather", ["real", "a"], ["tokens"]),
        helper.make_node("Cast", ["tokens"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["counted", "axis"], ["number"], keepdims=0),
        helper.make_node("Sub", ["number", "usual"], ["logit"]),
        helper.make_node("Unsqueeze", ["logit", "axis"], ["column"]),
        helper.make_node("Sub", ["column", "further"], ["share"]),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("usual", TensorProto.FLOAT, [], [8.0]),
        helper.make_tensor("further", TensorProto.FLOAT, [3], [0.0, 1.0, 2.0]),
    ]
    inputs = [
        helper.make_tensor_value_info("states", TensorProto.FLOAT, [None] * 4),
        helper.make_tensor_value_info("real", TensorProto.BOOL, [None] * 2),
        *(helper.make_tensor_value_info(name, TensorProto.INT64, [None]) for name in ("a", "b")),
    ]
    graph_outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "counts-tokens", inputs, graph_outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def text():
    return open_onnx(ROOT / "var" / "text")


def judge_of(text, *networks):
    return LearnedJudge(networks, text, Card({}, slope=1.0, offset=0.0, threshold=0.5, false_hits=0.0))


def expected_share(text, prompt):
    """The share that the network gives to this remembered prompt."""
    logit = len(text.states_of(prompt)) - 8
    return sum(1 / (1 + math.exp(further - logit)) for further in (0, 1, 2))


def test_the_share_is_the_sum_of_three_probabilities(text):
    remembered = ["a red fox in the snow", "a fox", "two very old men who play chess in a park in autumn"]
    shares = judge_of(text, network("logit"), network("logit", "share")).shares("a blue fox", remembered)
    assert shares == pytest.approx([expected_share(text, prompt) for prompt in remembered], abs=1e-5)
    assert 0 < shares[1] < shares[0] < shares[2] < 3


def test_a_share_is_told_although_a_rule_vetoes_the_pair(text):
    judge = judge_of(text, network("logit", "share"))
    assert judge("a blue fox", ["a red fox"])[0].confidence == 0.0
    assert judge.shares("a blue fox", ["a red fox"]) == pytest.approx([expected_share(text, "a red fox")], abs=1e-5)
    assert judge.shares("a blue fox", []) == []


def test_only_a_judge_with_such_a_network_tells_shares(text):
    able = judge_of(text, network("logit"), network("logit", "share"))
    assert find_shares_judge(able) is able
    assert find_shares_judge(judge_of(text, network("logit"))) is None
    assert find_shares_judge(RulesJudge()) is None


class Counting:
    """A network that counts its runs."""

    def __init__(self, network):
        self.network, self.runs = network, 0
        self.get_outputs = network.get_outputs

    def run(self, *arguments):
        self.runs += 1
        return self.network.run(*arguments)


def test_the_verdict_and_the_share_of_a_pair_come_from_one_run(text):
    counting = Counting(network("logit", "share"))
    judge = judge_of(text, counting)
    [verdict] = judge("an owl in a tree", ["an owl that sits in a very old and tall tree"])
    assert verdict.confidence and counting.runs == 1
    judge.shares("an owl in a tree", ["an owl that sits in a very old and tall tree"])
    assert counting.runs == 1
    judge.shares("an owl in a tree", ["an owl that sits in a very old and tall tree"], "another scope")
    assert counting.runs == 2  # what one scope has asked must not make another one's answer faster
