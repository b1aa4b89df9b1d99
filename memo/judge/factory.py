"""Opens the judge that the setting MEMO_JUDGE names."""

from pathlib import Path

from memo.errors import BadSetup
from memo.onnx_embedder import open_onnx

from .cross_encoder import open_cross_encoder
from .learned import open_learned
from .llm import open_bedrock, open_chat
from .port import Judge
from .rules_judge import RulesJudge

SHIPPED = Path(__file__).with_name("weights")
KNOWN = "learned, learned:FOLDER, rules, cross-encoder:HUB_ID, llm:URL#MODEL, bedrock:MODEL"


def open_judge(
    spec: str, text_folder: Path, api_key: str | None = None, embedding_cache: Path | None = None
) -> Judge:
    """The judge that `spec` names: one of KNOWN. Raises BadSetup.

    `text_folder` holds the exported text model, `embedding_cache` its cached embeddings; `api_key` is sent to the
    server of a language model.
    """
    name, _, rest = spec.partition(":")
    if spec == "rules":
        return RulesJudge()
    if name == "learned":
        return open_learned(Path(rest) if rest else SHIPPED, open_onnx(text_folder, embedding_cache))
    if name == "cross-encoder" and rest:
        return open_cross_encoder(rest)
    if name == "llm":
        return open_chat(rest, api_key)
    if name == "bedrock":
        return open_bedrock(rest)
    raise BadSetup(f"the judge {spec!r} is unknown; choose one of {KNOWN}")
