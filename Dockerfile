# The image in which tasks run on Vertex AI Pipelines and on a Kubeflow cluster; docs/engines.md.
#   docker build --target slim -t REGISTRY/llmops:slim .     without PyTorch: data, Gemini, evaluation
#   docker build --target full -t REGISTRY/llmops:full .     with PyTorch: the local model as well
# Then engine.image=REGISTRY/llmops:slim. A project with steps of its own builds on top:
#   FROM REGISTRY/llmops:slim
#   COPY . /opt/project
#   RUN uv pip install /opt/project
FROM python:3.11-slim AS slim
ENV VIRTUAL_ENV=/opt/venv
ENV PATH=/opt/venv/bin:$PATH
ENV PYTHONUNBUFFERED=1
WORKDIR /opt/llmops
COPY pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE ./
COPY conf conf
COPY llmops llmops
RUN python -m venv "$VIRTUAL_ENV"
RUN pip install --quiet --constraint constraints.txt uv
RUN uv pip install --quiet --constraint constraints.txt ".[gcp]"
# What a task writes beside the store, e.g. a sample warehouse, lies here and goes with it.
WORKDIR /workspace

FROM slim AS full
WORKDIR /opt/llmops
RUN uv pip install --quiet --constraint constraints.txt ".[gcp,local]"
WORKDIR /workspace
