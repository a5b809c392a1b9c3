# syntax=docker/dockerfile:1
# The wheel is made in the first stage; the second has neither Rust nor the sources.
#   docker build --tag aquachat .
#   docker build --tag aquachat:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG RUST_VERSION=1.88.0
ENV CARGO_HOME=/opt/cargo RUSTUP_HOME=/opt/rustup PATH=/opt/cargo/bin:$PATH
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && curl --proto '=https' --tlsv1.2 -fsSL https://sh.rustup.rs \
    | sh -s -- -y --profile minimal --default-toolchain "${RUST_VERSION}" --no-modify-path
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY man man
COPY tokenizer-rs tokenizer-rs
COPY aquachat aquachat
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON_VERSION}-slim-bookworm
# An index of PyTorch: https://download.pytorch.org/whl/cu128 for NVIDIA GPUs.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV AQUACHAT_HOME=/data PYTHONUNBUFFERED=1
# torch.compile, which attention on a GPU needs, calls a C compiler.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 aquachat \
    && install --directory --owner aquachat --group aquachat /data
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" 'torch>=2.6,<3'
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir /wheels/*.whl
COPY --from=build /source/man/aquachat.1 /usr/local/share/man/man1/aquachat.1
USER 1000
WORKDIR /home/aquachat
VOLUME /data
CMD ["aquachat", "--help"]
