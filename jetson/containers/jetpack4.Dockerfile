# TX2 and others on JetPack 4.6.1 and later (L4T R32.7): Ubuntu 18.04, Python 3.8.
#
#   python -m adaptive.jetson.wheelhouse jetpack4 -o wheelhouse \
#       --wheel onnxruntime_gpu-1.11.0-cp38-cp38-linux_aarch64.whl   # from NVIDIA's Jetson Zoo
#   docker build -f jetpack4.Dockerfile -t adaptive:jetpack4 .       # beside wheelhouse/
#
# CUDA, cuDNN and TensorRT are the board's own: NVIDIA's runtime mounts them into this image.
FROM nvcr.io/nvidia/l4t-base:r32.7.1
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3.8 python3.8-venv libgomp1 \
 && rm -rf /var/lib/apt/lists/*
COPY wheelhouse /wheelhouse
RUN /wheelhouse/install.sh /opt/adaptive && rm -rf /wheelhouse
ENV HOME=/tmp XDG_CACHE_HOME=/cache CUDA_CACHE_PATH=/cache/cuda
EXPOSE 8080
ENTRYPOINT ["/opt/adaptive/bin/adaptive", "serve", "/bundle", "--host", "0.0.0.0", "--port", "8080"]
