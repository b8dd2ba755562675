// A table made on the host, on its way to the device in the current stream.
#pragma once
#include <algorithm>
#include <cstring>

#include "launch.cuh"
#include "tensor.h"

namespace fc {

// Words of a kernel's arguments: of those that every kernel may have, and of many.
constexpr int kUploadWords = 448, kManyUploadWords = kCompilesLargeArguments ? 4080 : kUploadWords;

template <int most>
struct UploadWords {
  int64_t words[most];
};

namespace {

template <int most>
__global__ void upload_kernel(const __grid_constant__ UploadWords<most> from, int count, int64_t* to) {
  for (int k = int(blockIdx.x * blockDim.x + threadIdx.x); k < count; k += int(gridDim.x * blockDim.x)) to[k] = from.words[k];
}

}  // namespace

// One copy from pinned memory, which torch keeps until the copy is done. A graph that is being recorded would read it again
// at every replay: there the table travels in the arguments of kernels, which the graph keeps.
struct [[gnu::visibility("hidden")]] Upload {
  Upload(const Tensor& like, int64_t count)
      : stream(current_stream(like)), in_arguments(is_capturing(stream)), words(count), host(new_host_memory()),
        device(new_tensor<int64_t>(like, {count})) {}

  int64_t* at_host() const { return data<int64_t>(host); }
  int64_t* at_device() const { return data<int64_t>(device); }

  // To be called once, before the launch that reads the table.
  void send() {
    if (!in_arguments) {
      torch::stable::copy_(device, host, true);
      return;
    }
    if (words > kUploadWords && takes_large_arguments()) send_in_parts<kManyUploadWords>();
    else send_in_parts<kUploadWords>();
  }

 private:
  template <int most>
  void send_in_parts() const {
    for (int64_t begin = 0; begin < words; begin += most) {
      UploadWords<most> part;
      const int64_t count = std::min<int64_t>(most, words - begin);
      std::memcpy(part.words, at_host() + begin, size_t(count) * sizeof(int64_t));
      launch(upload_kernel<most>, unsigned(count + 511) / 512, 128, 0, stream, part, int(count), at_device() + begin);
    }
  }

  Tensor new_host_memory() const {
    return torch::stable::empty({words}, ScalarType::Long, std::nullopt,
                                torch::stable::Device(torch::headeronly::DeviceType::CPU),
                                kHasPinnedMemory && !in_arguments);
  }

  cudaStream_t stream;
  bool in_arguments;
  int64_t words;
  Tensor host, device;
};

}  // namespace fc
