// Name the classes of a picture with a bundle of xxdeploy, without Python on the device.
//
//   g++ -std=c++17 -O2 -DXXDEPLOY_ONNXRUNTIME predict.cc -L ORT/lib -lonnxruntime -o predict
//   ./predict BUNDLE                          # runs the golden pairs
//   ./predict BUNDLE PIXELS.npy [VARIANT]     # names the five best classes of decoded pixels
//
// PIXELS is (height, width, 3) RGB or (height, width, 1) gray, uint8. With -DXXDEPLOY_LITERT and -lLiteRt the program
// runs the bundle's LiteRT file. The exit status is 0, or 1 with the error's code and hint on stderr.
#include "xxdeploy.hpp"

#include <cstdio>

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) {
    std::fprintf(stderr, "predict BUNDLE [PIXELS.npy [VARIANT]]\n");
    return 2;
  }
  try {
    xxdeploy::Options options;
    if (argc == 4) options.variant = argv[3];
    xxdeploy::Runtime runtime(argv[1], options);
    const xxdeploy::Bundle& bundle = runtime.bundle();
    if (argc == 2) {
      const double error = runtime.selftest();
      std::printf("%s, variant %s: the largest error is %.3g, allowed is %.3g\n", bundle.manifest.name.c_str(),
                  bundle.picked().name.c_str(), error, bundle.manifest.outputs[0].tolerance);
      return 0;
    }
    std::ifstream file(argv[2], std::ios::binary);
    const std::string data((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const xxdeploy::Array pixels = xxdeploy::parse_npy(data, argv[2]);
    if (!pixels.is_uint8 || pixels.shape.size() != 3)
      throw xxdeploy::Error("image-array", "the pixels are not (height, width, channels) uint8", "save such an array");
    const xxdeploy::Picture picture{pixels.bytes.data(), int(pixels.shape[0]), int(pixels.shape[1]),
                                    int(pixels.shape[2])};
    for (const xxdeploy::Prediction& best : runtime.predict(picture))
      std::printf("%.6f %s\n", double(best.score), best.label.c_str());
    return 0;
  } catch (const xxdeploy::Error& error) {
    std::fprintf(stderr, "error %s: %s\n hint: %s\n", error.code.c_str(), error.what(), error.hint.c_str());
    return 1;
  }
}
