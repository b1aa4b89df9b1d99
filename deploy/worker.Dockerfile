# The worker, which paints on a GPU: docker build --file deploy/worker.Dockerfile .
# deploy/compose.cpu.yml builds it for machines without a GPU.

# Ubuntu's Python 3.12 with torch for CUDA 13 (driver 580 or newer, Turing or newer).
ARG TORCH_IMAGE=pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime

FROM ${TORCH_IMAGE}
# The index that has torch, if the base has none: on PyPI, torch for Linux is the one with CUDA.
ARG TORCH_INDEX=
# The base's Python may belong to apt, so pip needs an environment of its own, which can use the base's torch.
# For WORKER_COMPILE, torch compiles its kernel launchers with a C compiler.
# A distribution keeps only the newest patch of a package, so a pinned version would soon disappear.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv --system-site-packages /opt/memoaized/venv
ENV PATH=/opt/memoaized/venv/bin:$PATH
WORKDIR /opt/memoaized/source
# The dependencies have a layer of their own, which a changed source leaves as it is.
COPY pyproject.toml constraints.txt deploy/requirements.py ./
# torch.txt keeps pip from replacing this torch by another one. The line that writes it fails if there is no torch.
RUN if [ -n "${TORCH_INDEX}" ]; then \
      pip install --no-cache-dir --constraint constraints.txt --no-deps --index-url "${TORCH_INDEX}" torch; \
    fi \
 && python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > torch.txt \
 && python requirements.py pyproject.toml gpu s3 > requirements.txt \
 && pip install --no-cache-dir --constraint constraints.txt --constraint torch.txt --requirement requirements.txt
COPY README.md LICENSE NOTICE ./
COPY disk disk
COPY memo memo
COPY jobs jobs
COPY worker worker
COPY training training
COPY web web
COPY index_server index_server
COPY memoaized memoaized
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
 && memoaized prepare --text-folder /opt/memoaized/text

COPY --chown=10001:10001 models /opt/memoaized/models
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp memoaized \
 && install --directory --owner 10001 --group 10001 /opt/memoaized/compiled
USER 10001:10001
WORKDIR /opt/memoaized
ENV HF_HUB_OFFLINE=1 \
    HOME=/tmp \
    MEMO_EMBEDDING_CACHE= \
    MEMO_TEXT_FOLDER=/opt/memoaized/text \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1 \
    TORCHINDUCTOR_CACHE_DIR=/opt/memoaized/compiled/inductor \
    TRITON_CACHE_DIR=/opt/memoaized/compiled/triton \
    JOBS_MODELS=/opt/memoaized/models
HEALTHCHECK --interval=30s --timeout=20s --start-period=30m --start-interval=5s --retries=3 \
  CMD ["memoaized", "healthcheck", "worker"]
CMD ["celery", "--app", "worker.main:app", "worker", "--pool", "threads", "--prefetch-multiplier", "1", "--without-gossip", "--without-mingle"]
