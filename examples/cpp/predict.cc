// Runs the golden pairs of a bundle through ONNX Runtime's C API: no Python on the device.
//
//   g++ -std=c++17 -O2 -I ORT/include predict.cc -L ORT/lib -lonnxruntime -o predict
//   ./predict BUNDLE/model.onnx BUNDLE/golden/inputs.npy BUNDLE/golden/outputs.npy MODE TOLERANCE
//
// MODE is `preprocess.mode` of manifest.json (tf or none here), TOLERANCE its `golden.tolerance`. Exit status 0: every
// output is within it. Check the hashes of manifest.json before: this program trusts its files.
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

static const OrtApi* api = nullptr;

static void check(OrtStatus* status) {
  if (status == nullptr) return;
  std::fprintf(stderr, "%s\n", api->GetErrorMessage(status));
  std::exit(2);
}

struct Npy {
  std::vector<int64_t> shape;
  std::vector<char> data;
};

// Version 1.0, C order, as docs/bundle-format.md promises.
static Npy read_npy(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> all((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (all.size() < 10 || std::memcmp(all.data(), "\x93NUMPY\x01\x00", 8) != 0) {
    std::fprintf(stderr, "%s is no .npy file\n", path);
    std::exit(2);
  }
  const size_t length = 10 + (uint8_t(all[8]) | uint8_t(all[9]) << 8);
  const std::string header(all.begin() + 10, all.begin() + std::min(length, all.size()));
  Npy found;
  const char* at = std::strchr(header.c_str(), '(');
  while (at != nullptr && *at != ')') {
    char* end = nullptr;
    const long long size = std::strtoll(at + 1, &end, 10);
    if (end != at + 1) found.shape.push_back(size);
    at = std::strpbrk(at + 1, ",)");
  }
  found.data.assign(all.begin() + std::min(length, all.size()), all.end());
  return found;
}

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  const Npy inputs = read_npy(argv[2]), outputs = read_npy(argv[3]);
  const bool tf = std::string(argv[4]) == "tf";
  const double tolerance = std::atof(argv[5]);

  std::vector<float> image(inputs.data.size());
  for (size_t i = 0; i < image.size(); ++i) {
    const float pixel = float(uint8_t(inputs.data[i]));
    image[i] = tf ? pixel / 127.5f - 1.0f : pixel;
  }

  OrtEnv* env = nullptr;
  OrtSessionOptions* options = nullptr;
  OrtSession* session = nullptr;
  OrtMemoryInfo* memory = nullptr;
  OrtValue *input = nullptr, *output = nullptr;
  OrtAllocator* allocator = nullptr;
  char *in_name = nullptr, *out_name = nullptr;
  check(api->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "xxdeploy", &env));
  check(api->CreateSessionOptions(&options));
  check(api->CreateSession(env, argv[1], options, &session));
  check(api->GetAllocatorWithDefaultOptions(&allocator));
  check(api->SessionGetInputName(session, 0, allocator, &in_name));
  check(api->SessionGetOutputName(session, 0, allocator, &out_name));
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  check(api->CreateTensorWithDataAsOrtValue(memory, image.data(), image.size() * sizeof(float), inputs.shape.data(),
                                            inputs.shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input));
  check(api->Run(session, nullptr, &in_name, &input, 1, &out_name, 1, &output));
  float* found = nullptr;
  check(api->GetTensorMutableData(output, reinterpret_cast<void**>(&found)));

  double worst = 0.0;
  const size_t count = outputs.data.size() / sizeof(float);
  for (size_t i = 0; i < count; ++i) {
    float expected = 0.0f;
    std::memcpy(&expected, outputs.data.data() + i * sizeof(float), sizeof(float));
    const double error = std::fabs(double(found[i]) - expected);
    worst = error <= worst ? worst : error;  // so that NaN stays
  }
  std::printf("largest error %.3g, allowed %.3g\n", worst, tolerance);
  return worst <= tolerance ? 0 : 1;
}
