// Runs the golden pairs of a bundle with ONNX Runtime's C API, without Python on the device.
//
//   g++ -std=c++17 -O2 -I ORT/include predict.cc -L ORT/lib -lonnxruntime -o predict
//   ./predict BUNDLE/model.onnx BUNDLE/golden/inputs.npy BUNDLE/golden/outputs.npy MODE TOLERANCE [FOUND]
//
// The model and its outputs belong to one variant of manifest.json. MODE is its `preprocess.mode` (tf, caffe, torch or
// none here), TOLERANCE its `golden.tolerance`. The exit status is 0 if every value of the first output is within the
// tolerance, 1 if one is not, and 2 if a file cannot be read or the model cannot be run. FOUND is a file for the computed
// outputs, float32 without a header. Check the hashes of manifest.json first: this program trusts its files.
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

// Version 1.0, C order, as docs/reference/bundle-format.md promises.
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

// What Preprocess.normalize does, in float: channels last, `caffe` turns RGB to BGR.
static bool normalize(const std::string& mode, const std::vector<char>& pixels, int64_t channels, float* image) {
  static const float caffe[] = {103.939f, 116.779f, 123.68f};
  static const float mean[] = {0.485f, 0.456f, 0.406f}, deviation[] = {0.229f, 0.224f, 0.225f};
  if (mode != "tf" && mode != "none" && !(channels == 3 && (mode == "caffe" || mode == "torch"))) return false;
  for (size_t i = 0; i < pixels.size(); ++i) {
    const size_t c = i % channels;
    const float pixel = float(uint8_t(pixels[mode == "caffe" ? i - c + 2 - c : i]));
    image[i] = mode == "tf"      ? pixel / 127.5f - 1.0f
               : mode == "caffe" ? pixel - caffe[c]
               : mode == "torch" ? (pixel / 255.0f - mean[c]) / deviation[c]
                                 : pixel;
  }
  return true;
}

static int stop(const char* why) {
  std::fprintf(stderr, "%s\n", why);
  return 2;
}

int main(int argc, char** argv) {
  if (argc != 6 && argc != 7) return stop("predict MODEL INPUTS OUTPUTS MODE TOLERANCE [FOUND]");
  api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (api == nullptr) return stop("the library is older than the headers");
  Npy inputs = read_npy(argv[2]);
  const Npy outputs = read_npy(argv[3]);
  const double tolerance = std::atof(argv[5]);
  int64_t pixels = 1;
  for (int64_t side : inputs.shape) pixels *= side;
  if (inputs.shape.size() != 4 || pixels <= 0 || size_t(pixels) != inputs.data.size())
    return stop("the golden inputs are no pictures (n, height, width, channels) uint8, which this program is for");

  OrtEnv* env = nullptr;
  OrtSessionOptions* options = nullptr;
  OrtSession* session = nullptr;
  OrtMemoryInfo* memory = nullptr;
  OrtValue *input = nullptr, *output = nullptr;
  OrtAllocator* allocator = nullptr;
  OrtTypeInfo* type = nullptr;
  OrtTensorTypeAndShapeInfo* out_shape = nullptr;
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  char *in_name = nullptr, *out_name = nullptr;
  check(api->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "xxdeploy", &env));
  check(api->CreateSessionOptions(&options));
  check(api->CreateSession(env, argv[1], options, &session));
  size_t in_count = 0;
  check(api->SessionGetInputCount(session, &in_count));
  if (in_count != 1) return stop("the model reads several inputs: this program is for models of one picture");
  check(api->GetAllocatorWithDefaultOptions(&allocator));
  check(api->SessionGetInputName(session, 0, allocator, &in_name));
  check(api->SessionGetOutputName(session, 0, allocator, &out_name));
  check(api->SessionGetInputTypeInfo(session, 0, &type));
  check(api->CastTypeInfoToTensorInfo(type, &tensor));
  check(api->GetTensorElementType(tensor, &element));
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));

  // INT8 models for x86 take the picture's bytes as they are: what they mean is inside the model.
  std::vector<float> image;
  void* data = inputs.data.data();
  size_t size = inputs.data.size();
  if (element == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    image.resize(inputs.data.size());
    if (!normalize(argv[4], inputs.data, inputs.shape[3], image.data())) return stop("this mode is not known here");
    data = image.data();
    size *= sizeof(float);
  } else if (element != ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8) {
    return stop("the model's input is neither float32 nor uint8");
  }
  check(api->CreateTensorWithDataAsOrtValue(memory, data, size, inputs.shape.data(), inputs.shape.size(), element,
                                            &input));
  check(api->Run(session, nullptr, &in_name, &input, 1, &out_name, 1, &output));
  float* found = nullptr;
  size_t count = 0;
  check(api->GetTensorMutableData(output, reinterpret_cast<void**>(&found)));
  check(api->GetTensorTypeAndShape(output, &out_shape));
  check(api->GetTensorShapeElementCount(out_shape, &count));
  if (count == 0 || count * sizeof(float) != outputs.data.size()) return stop("the golden outputs are of another size");
  if (argc == 7 && !std::ofstream(argv[6], std::ios::binary).write(reinterpret_cast<char*>(found), count * sizeof(float)))
    return stop("what was computed cannot be written");

  double worst = 0.0;
  for (size_t i = 0; i < count; ++i) {
    float expected = 0.0f;
    std::memcpy(&expected, outputs.data.data() + i * sizeof(float), sizeof(float));
    const double error = std::fabs(double(found[i]) - expected);
    worst = error <= worst ? worst : error;  // so that NaN stays
  }
  std::printf("largest error %.3g, allowed %.3g\n", worst, tolerance);

  api->ReleaseTensorTypeAndShapeInfo(out_shape);
  api->ReleaseTypeInfo(type);
  api->ReleaseValue(output);
  api->ReleaseValue(input);
  api->ReleaseMemoryInfo(memory);
  check(api->AllocatorFree(allocator, in_name));
  check(api->AllocatorFree(allocator, out_name));
  api->ReleaseSession(session);
  api->ReleaseSessionOptions(options);
  api->ReleaseEnv(env);
  return worst <= tolerance ? 0 : 1;
}
