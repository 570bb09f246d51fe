# Orin on JetPack 7 (CUDA 13): Ubuntu 24.04, Python 3.12.
#
#   python -m adaptive.jetson.wheelhouse jetpack7 -o wheelhouse --wheel ONNXRUNTIME_GPU.whl
#   docker build -f jetpack7.Dockerfile -t adaptive:jetpack7 .       # beside wheelhouse/
#
# ONNXRUNTIME_GPU.whl is the one for cp312 from NVIDIA's Jetson index.
#
# BASE is yours to choose, with --build-arg BASE=…: an arm64 image of Ubuntu 24.04 with the board's
# CUDA and TensorRT. With Ubuntu alone, ONNX Runtime's CPU engine serves.
ARG BASE=ubuntu:24.04
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3.12 python3.12-venv libgomp1 \
 && rm -rf /var/lib/apt/lists/*
COPY wheelhouse /wheelhouse
RUN /wheelhouse/install.sh /opt/adaptive && rm -rf /wheelhouse
ENV HOME=/tmp XDG_CACHE_HOME=/cache CUDA_CACHE_PATH=/cache/cuda
EXPOSE 8080
ENTRYPOINT ["/opt/adaptive/bin/adaptive", "serve", "/bundle", "--host", "0.0.0.0", "--port", "8080"]
