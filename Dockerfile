# The command line in a container, from pinned packages; docs/operations.md says how to build and run it.
#
#   docker build --tag abs:cpu .
#   docker build --tag abs:gpu --build-arg VARIANT=gpu .
#
# `make test-image` runs these steps where there is no container engine.

ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS build
ARG VARIANT=cpu
# torch without CUDA is on an index of its own; it and torchvision are pinned by version there, everything else by hash
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# byte code is written once, at the end; some packages bring templates that are no Python
ENV PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints/ constraints/
RUN python -m venv /opt/abs && python -m venv /opt/build
RUN case "$VARIANT" in \
      cpu) /opt/abs/bin/pip install --no-deps --index-url "$TORCH_INDEX" --requirement constraints/image-torch-cpu.txt ;; \
      gpu) /opt/abs/bin/pip install --no-deps --require-hashes --requirement constraints/image-torch-gpu.txt ;; \
      *) echo "VARIANT must be cpu or gpu, got '$VARIANT'" >&2; exit 1 ;; \
    esac
RUN /opt/abs/bin/pip install --no-deps --require-hashes --requirement constraints/image.txt
RUN /opt/build/bin/pip install --no-deps --require-hashes --requirement constraints/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY abs_core/ abs_core/
COPY abs_descriptions/ abs_descriptions/
COPY abs_classify/ abs_classify/
COPY abs_cli/ abs_cli/
COPY prompts/ prompts/
COPY data/ data/
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/abs/bin/pip install --no-deps --no-index dist/*.whl \
 && (/opt/abs/bin/python -m compileall -qq -j 0 /opt/abs/lib || true)

FROM ${BASE}
ARG VARIANT=cpu
# torch.compile, which long runs on a GPU go through, builds its kernels with a C compiler
RUN if [ "$VARIANT" = gpu ]; then \
      apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi
RUN groupadd --gid 10001 abs \
 && useradd --uid 10001 --gid abs --no-create-home --home-dir /data --shell /usr/sbin/nologin abs \
 && install --directory --owner abs --group abs --mode 1777 /data /work
COPY --from=build /opt/abs /opt/abs
# everything that is kept lies below /data: mount a volume there
ENV PATH=/opt/abs/bin:$PATH HOME=/data ABS_HOME=/data/abs ABS_CACHE=/data/cache HF_HOME=/data/hub
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /work
USER 10001:10001
ENTRYPOINT ["abs"]
CMD ["--help"]
