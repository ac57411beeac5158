# Caffe, with GPU code or without it, and this project, on Debian:
#
#   docker build -t breast-mass .                         # target gpu: CUDA, cuDNN and NCCL
#   docker build -t breast-mass:cpu --target cpu .        # any x86-64 processor, and the tests
#
#   --build-arg BASE=debian:12.12-slim                    # on another system that setup.sh knows
#   --build-arg CUDA_ARCH_BIN=90                          # these compute capabilities only: a shorter build
#   --build-arg COMMIT=$(git describe --always --dirty --abbrev=12 --exclude='*')      # what results then name
#   --secret id=ca,src=FILE                               # a proxy's certificates, for the build alone
#
# The builders run the script that `make setup` runs. What it leaves in .venv goes into images without compilers.
ARG BASE=debian:13-slim


FROM ${BASE} AS builder
ENV DEBIAN_FRONTEND=noninteractive
WORKDIR /opt/breast-mass
COPY scripts/install/apt-packages.txt scripts/install/runtime_packages.sh scripts/install/
RUN apt-get update \
    && grep -v '^#' scripts/install/apt-packages.txt | xargs apt-get install -y --no-install-recommends \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && scripts/install/runtime_packages.sh >/opt/runtime-packages.txt
# All that setup reads. Our own packages are links to their folders, which the images fill.
COPY requirements*.txt pyproject.toml ./
COPY data_prep/__init__.py data_prep/
COPY scripts/__init__.py scripts/
COPY scripts/install scripts/install


FROM builder AS cpu-builder
RUN --mount=type=secret,id=ca,target=/run/ca.crt \
    if [ -s /run/ca.crt ]; then export PIP_CERT=/run/ca.crt; fi \
    && CAFFE_PORTABLE=1 scripts/install/setup.sh \
    && rm -rf /root/.cache


# CUDA's libraries are most of the image. Set apart, they stay as they are when the rest of .venv changes; a link in
# .venv leads to them.
FROM builder AS gpu-builder
ARG CUDA_ARCH_BIN
RUN --mount=type=secret,id=ca,target=/run/ca.crt \
    if [ -s /run/ca.crt ]; then export PIP_CERT=/run/ca.crt; fi \
    && scripts/install/setup.sh --cuda --cudnn --nccl \
    && .venv/bin/pip uninstall -y -r requirements-dev.txt \
    && mv .venv/lib/python3*/site-packages/nvidia /opt/nvidia \
    && ln -s /opt/nvidia .venv/lib/python3*/site-packages/ \
    && find /opt/nvidia -name include -prune -exec rm -r {} + \
    && find /opt/nvidia -name '*.a' -delete \
    && rm -rf /root/.cache


FROM scratch AS project
COPY LICENSE README.md pyproject.toml requirements*.txt /opt/breast-mass/
COPY prototxt /opt/breast-mass/prototxt
COPY solvers /opt/breast-mass/solvers
COPY data_prep /opt/breast-mass/data_prep
COPY scripts /opt/breast-mass/scripts
COPY results/starts /opt/breast-mass/starts


# The working folders are links to /data, where the user's own folder is mounted. Without one, anyone may write there,
# and it goes with the container. Of a user without a name, as --user makes them, /tmp is the home too.
FROM ${BASE} AS runtime
WORKDIR /opt/breast-mass
COPY --from=builder /opt/runtime-packages.txt /opt/
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive xargs apt-get install -y --no-install-recommends </opt/runtime-packages.txt \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --home-dir /tmp reader \
    && install -d -m 1777 /data \
    && ln -s /data data && ln -s /data/weights /data/runs /data/results .
ENV PATH=/opt/breast-mass/.venv/bin:$PATH HOME=/tmp
ENTRYPOINT ["/opt/breast-mass/scripts/install/entrypoint.sh"]
CMD ["python", "scripts/demo.py"]
LABEL org.opencontainers.image.title="breast-mass" \
    org.opencontainers.image.description="Breast mass classification from mammograms, after Levy and Jain (2016), in BVLC Caffe" \
    org.opencontainers.image.version="1.0.0" \
    org.opencontainers.image.licenses="BSD-2-Clause"


FROM runtime AS cpu
COPY --from=cpu-builder /opt/breast-mass/.venv .venv
COPY --from=project /opt/breast-mass .
COPY tests tests
USER reader
RUN scripts/install/check_libraries.sh
ARG COMMIT=unknown
ENV BREAST_MASS_COMMIT=$COMMIT
LABEL org.opencontainers.image.revision=$COMMIT


FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-builder /opt/nvidia /opt/nvidia
COPY --from=gpu-builder /opt/breast-mass/.venv .venv
COPY --from=project /opt/breast-mass .
USER reader
RUN scripts/install/check_libraries.sh
ARG COMMIT=unknown
ENV BREAST_MASS_COMMIT=$COMMIT
LABEL org.opencontainers.image.revision=$COMMIT
