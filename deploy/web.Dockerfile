# The web process, without torch and CUDA: docker build --file deploy/web.Dockerfile .

ARG PYTHON_IMAGE=python:3.11.17-slim-bookworm
ARG TORCH_IMAGE=pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime

# Exports the text model in the same layers as the worker's image; the final image takes only the model.
FROM ${TORCH_IMAGE} AS text
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

FROM ${PYTHON_IMAGE}
WORKDIR /opt/memoaized/source
COPY pyproject.toml constraints.txt deploy/requirements.py ./
# The last line fails if a dependency has installed torch.
RUN python requirements.py pyproject.toml s3 > requirements.txt \
 && pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt \
 && python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is not None)'
COPY README.md LICENSE NOTICE ./
COPY disk disk
COPY memo memo
COPY jobs jobs
COPY worker worker
COPY training training
COPY web web
COPY index_server index_server
COPY memoaized memoaized
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

COPY --from=text /opt/memoaized/text /opt/memoaized/text
COPY --chown=10001:10001 models /opt/memoaized/models
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp memoaized \
 && install --directory --owner 10001 --group 10001 /opt/memoaized/embeddings
USER 10001:10001
WORKDIR /opt/memoaized
ENV HOME=/tmp \
    MALLOC_ARENA_MAX=2 \
    MEMO_EMBEDDING_CACHE=/opt/memoaized/embeddings \
    MEMO_TEXT_FOLDER=/opt/memoaized/text \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1 \
    JOBS_MODELS=/opt/memoaized/models
EXPOSE 8000
# 200 when a job can be served, so only while a worker is running.
HEALTHCHECK --interval=15s --timeout=10s --start-period=4m --start-interval=2s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=8)"]
CMD ["python", "-m", "web.main", "--host", "0.0.0.0", "--port", "8000"]
