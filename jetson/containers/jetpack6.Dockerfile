# Orin on JetPack 6 (L4T R36.4): Ubuntu 22.04, Python 3.10.
#
#   python -m adaptive.jetson.wheelhouse jetpack6 -o wheelhouse --wheel ONNXRUNTIME_GPU.whl
#   docker build -f jetpack6.Dockerfile -t adaptive:jetpack6 .       # beside wheelhouse/
#
# ONNXRUNTIME_GPU.whl is the one for cp310 from NVIDIA's Jetson index.
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3.10 python3.10-venv libgomp1 \
 && rm -rf /var/lib/apt/lists/*
COPY wheelhouse /wheelhouse
RUN /wheelhouse/install.sh /opt/adaptive && rm -rf /wheelhouse
ENV HOME=/tmp XDG_CACHE_HOME=/cache CUDA_CACHE_PATH=/cache/cuda
EXPOSE 8080
ENTRYPOINT ["/opt/adaptive/bin/adaptive", "serve", "/bundle", "--host", "0.0.0.0", "--port", "8080"]
