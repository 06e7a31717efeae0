// Reads bundles of xxdeploy in C++17: manifest, hashes, preprocessing, labels, golden pairs, and an engine.
//
//   #define XXDEPLOY_ONNXRUNTIME            // or XXDEPLOY_LITERT; neither: everything but the engine
//   #include "xxdeploy.hpp"
//   xxdeploy::Runtime runtime("mobilenetv2-int8");
//   for (const xxdeploy::Prediction& best : runtime.predict({pixels, height, width, 3}))
//     std::printf("%s %.3f\n", best.label.c_str(), best.score);
//
// `read` gives the text of a bundle for sequences, `image` the picture or mask of one for images, `run` every output.
// It needs no library but the engine: libonnxruntime (ONNX Runtime's C API, 1.16 or newer), or libLiteRt (LiteRT's C
// API, 2.3 or newer). It does not decode files: give it the pixels, (height, width, 3) RGB or (height, width, 1) gray,
// uint8, upright. Every error is an xxdeploy::Error with the code of docs/reference/errors.md. The header reads schema
// 5 and bundles of one picture; docs/reference/bundle-format.md is the format, and conformance.cc holds it to the
// others.
//
// A Runtime of ONNX Runtime serves several threads at once; one of LiteRT serves one thread at a time.
// Signatures are not checked here: check them where the bundle arrives (`xxdeploy verify --key`).
#ifndef XXDEPLOY_HPP
#define XXDEPLOY_HPP

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <locale>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif

// A fused multiply-add would give other bits than the exporter's float32 arithmetic.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif

namespace xxdeploy {

// An error with its code (docs/reference/errors.md), and a hint that says what to do.
class Error : public std::runtime_error {
 public:
  Error(std::string code_, const std::string& message, std::string hint_)
      : std::runtime_error(message), code(std::move(code_)), hint(std::move(hint_)) {}
  const std::string code, hint;
};

namespace detail {

[[noreturn]] inline void wrong(const std::string& message) {
  throw Error("manifest-value", "the manifest is wrong: " + message, "export the bundle again");
}

inline std::string cut(const std::string& text, size_t length = 80) { return text.substr(0, length); }

}  // namespace detail

// ---------------------------------------------------------------------------------------------------------------- JSON

constexpr size_t kMaxManifestBytes = size_t(4) << 20;

// A JSON value. `integer` is a whole number without point or exponent; `fits` tells whether `whole` holds it.
struct Json {
  enum Kind { null, boolean, integer, real, string, array, object };
  Kind kind = null;
  bool truth = false, fits = true;
  int64_t whole = 0;
  double number = 0;
  std::string text;
  std::vector<Json> items;
  std::vector<std::pair<std::string, Json>> members;

  const Json* find(const std::string& key) const {
    for (const auto& member : members)
      if (member.first == key) return &member.second;
    return nullptr;
  }
};

namespace detail {

// Decodes one code point of UTF-8 at `at` and moves it on; -1 where the bytes are no UTF-8.
inline int32_t code_point(const std::string& text, size_t& at) {
  const auto byte = [&](size_t place) { return place < text.size() ? uint8_t(text[place]) : 0; };
  const uint8_t first = byte(at++);
  if (first < 0x80) return first;
  const int more = first >= 0xF0 && first <= 0xF4 ? 3 : first >= 0xE0 ? 2 : 1;
  if (first < 0xC2 || first > 0xF4) return -1;
  int32_t point = first & (0x3F >> more);
  for (int index = 0; index < more; ++index, ++at) {
    if ((byte(at) & 0xC0) != 0x80) return -1;
    point = point << 6 | (byte(at) & 0x3F);
  }
  const bool overlong = point < (more == 1 ? 0x80 : more == 2 ? 0x800 : 0x10000);
  return overlong || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000) ? -1 : point;
}

inline bool is_utf8(const std::string& text) {
  for (size_t at = 0; at < text.size();)
    if (code_point(text, at) < 0) return false;
  return true;
}

// Control characters (category Cc). Lone surrogates of \u escapes are told apart by the parser.
inline bool has_control(const std::string& text) {
  for (size_t at = 0; at < text.size();) {
    const int32_t point = code_point(text, at);
    if (point < 0x20 || (point >= 0x7F && point < 0xA0)) return true;
  }
  return false;
}

// RFC 8259 without its freedoms: no key twice, no number that overflows, at most kDepth levels and kValues values.
class JsonReader {
 public:
  static Json read(const std::string& text) {
    if (text.size() > kMaxManifestBytes)
      throw Error("manifest-too-large", "the manifest has more than " + std::to_string(kMaxManifestBytes) + " bytes",
                  "this is no bundle of xxdeploy");
    JsonReader reader(text);
    if (!is_utf8(text)) reader.fail("it is not UTF-8");
    Json value = reader.value(0);
    reader.space();
    if (reader.at_ != text.size()) reader.fail("there is more after its end");
    if (reader.odd_text_)
      throw Error("manifest-text", "the manifest has a control character in a text", "export the bundle again");
    return value;
  }

 private:
  static constexpr int kDepth = 512;
  static constexpr size_t kValues = 1 << 19, kDigits = 4300;
  explicit JsonReader(const std::string& text) : text_(text) {}

  [[noreturn]] void fail(const std::string& why) const {
    throw Error("manifest-json", "the manifest is not valid JSON: " + why + ", at byte " + std::to_string(at_),
                "copy or export the bundle again");
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char wanted) { return peek() == wanted && at_ < text_.size() ? ++at_, true : false; }
  void space() {
    while (at_ < text_.size() && std::strchr(" \t\n\r", text_[at_]) != nullptr && text_[at_] != '\0') ++at_;
  }
  void word(const char* letters) {
    for (; *letters != '\0'; ++letters)
      if (!take(*letters)) fail("an unknown word");
  }

  Json value(int depth) {
    if (depth > kDepth) fail("it is nested too deep");
    if (++values_ > kValues) fail("it has too many values");
    space();
    Json found;
    switch (peek()) {
      case '{':
        object(found, depth);
        break;
      case '[':
        array(found, depth);
        break;
      case '"':
        found.kind = Json::string, found.text = text();
        break;
      case 't':
        word("true"), found.kind = Json::boolean, found.truth = true;
        break;
      case 'f':
        word("false"), found.kind = Json::boolean;
        break;
      case 'n':
        word("null");
        break;
      default:
        number(found);
    }
    return found;
  }

  void object(Json& found, int depth) {
    found.kind = Json::object;
    ++at_, space();
    std::set<std::string> keys;
    if (take('}')) return;
    do {
      space();
      if (peek() != '"') fail("a key must be a text");
      std::string key = text();
      if (!keys.insert(key).second) fail("a key occurs twice in one object");
      space();
      if (!take(':')) fail("a colon is missing");
      found.members.emplace_back(std::move(key), value(depth + 1));
      space();
    } while (take(','));
    if (!take('}')) fail("a brace is missing");
  }

  void array(Json& found, int depth) {
    found.kind = Json::array;
    ++at_, space();
    if (take(']')) return;
    do {
      found.items.push_back(value(depth + 1));
      space();
    } while (take(','));
    if (!take(']')) fail("a bracket is missing");
  }

  void number(Json& found) {
    const size_t start = at_;
    const auto digits = [&] {
      const size_t first = at_;
      while (std::isdigit(uint8_t(peek()))) ++at_;
      if (at_ == first) fail("a value is missing");
      return at_ - first;
    };
    take('-');
    if (!take('0') && digits() > kDigits) fail("a number is too long");
    found.kind = Json::integer;
    if (take('.')) digits(), found.kind = Json::real;
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      digits(), found.kind = Json::real;
    }
    const std::string told = text_.substr(start, at_ - start);
    std::istringstream stream(told);
    stream.imbue(std::locale::classic());
    stream >> found.number;
    if (found.kind == Json::real && (!std::isfinite(found.number) || (stream.fail() && std::fabs(found.number) > 1)))
      fail("a number is infinite");
    if (found.kind == Json::real) return;
    errno = 0;
    found.whole = std::strtoll(told.c_str(), nullptr, 10);
    found.fits = errno == 0;
  }

  uint32_t hex() {
    uint32_t found = 0;
    for (int index = 0; index < 4; ++index, ++at_) {
      if (!std::isxdigit(uint8_t(peek()))) fail("an escape is wrong");
      const int digit = std::tolower(peek());
      found = found << 4 | uint32_t(digit <= '9' ? digit - '0' : digit - 'a' + 10);
    }
    return found;
  }

  std::string text() {
    std::string found;
    for (++at_;;) {
      if (at_ >= text_.size()) fail("a text does not end");
      const char letter = text_[at_++];
      if (letter == '"') break;
      if (uint8_t(letter) < 0x20) fail("a control character");
      if (letter == '\\')
        escape(found);
      else
        found += letter;
    }
    odd_text_ = odd_text_ || has_control(found);
    return found;
  }

  void escape(std::string& found) {
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char letter = peek();
    ++at_;
    if (letter != 'u') {
      const char* place = letter == '\0' ? nullptr : std::strchr(letters, letter);
      if (place == nullptr) fail("an escape is wrong");
      found += values[place - letters];
      return;
    }
    uint32_t point = hex();
    if (point >= 0xD800 && point < 0xDC00 && peek() == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] == 'u') {
      const size_t before = at_;
      at_ += 2;
      const uint32_t low = hex();
      if (low >= 0xDC00 && low < 0xE000)
        point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
      else
        at_ = before;
    }
    if (point >= 0xD800 && point < 0xE000) {
      odd_text_ = true;
      point = 0xFFFD;
    }
    if (point < 0x80) {
      found += char(point);
    } else if (point < 0x800) {
      found += {char(0xC0 | point >> 6), char(0x80 | (point & 0x3F))};
    } else if (point < 0x10000) {
      found += {char(0xE0 | point >> 12), char(0x80 | (point >> 6 & 0x3F)), char(0x80 | (point & 0x3F))};
    } else {
      found += {char(0xF0 | point >> 18), char(0x80 | (point >> 12 & 0x3F)), char(0x80 | (point >> 6 & 0x3F)),
                char(0x80 | (point & 0x3F))};
    }
  }

  const std::string& text_;
  size_t at_ = 0, values_ = 0;
  bool odd_text_ = false;
};

inline const Json& record(const Json& value, const std::set<std::string>& keys, const std::string& where) {
  if (value.kind != Json::object) wrong(where + " must be an object");
  std::set<std::string> have;
  for (const auto& member : value.members) have.insert(member.first);
  if (have == keys) return value;
  std::string told;
  for (const std::string& key : keys)
    if (have.count(key) == 0) told += " missing " + key;
  for (const std::string& key : have)
    if (keys.count(key) == 0) told += " unknown " + key;
  throw Error("manifest-keys", where + " has the wrong keys:" + cut(told, 300),
              "export the bundle again, or update this program");
}

inline const std::string& text_of(const Json& value, const std::string& where) {
  if (value.kind != Json::string) wrong(where + " must be a text");
  return value.text;
}

inline int64_t whole_of(const Json& value, const std::string& where, int64_t least, int64_t most) {
  if (value.kind != Json::integer || !value.fits || value.whole < least || value.whole > most)
    wrong(where + " must be a whole number of " + std::to_string(least) + " to " + std::to_string(most));
  return value.whole;
}

inline double number_of(const Json& value, const std::string& where) {
  const int64_t most = int64_t(1) << 53;
  const bool small = value.fits && value.whole > -most && value.whole < most;
  if (value.kind != Json::real && !(value.kind == Json::integer && small)) wrong(where + " must be a number");
  return value.number;
}

inline const std::vector<Json>& list_of(const Json& value, const std::string& where) {
  if (value.kind != Json::array) wrong(where + " must be a list");
  return value.items;
}

inline bool one_of(const std::string& word, std::initializer_list<const char*> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

inline std::string folded(std::string text) {
  for (char& letter : text)
    if (letter >= 'A' && letter <= 'Z') letter = char(letter - 'A' + 'a');
  return text;
}

}  // namespace detail

// ------------------------------------------------------------------------------------------------------------ manifest

// How a picture becomes the input: docs/reference/bundle-format.md#preprocess. `scale`, `mean`, `std` and `bgr` are
// those of the mode `custom`.
struct Preprocess {
  int height = 0, width = 0, channels = 3;
  std::string mode, resize = "squash", resample = "bilinear-antialias", background = "drop";
  double crop_fraction = 0.875, scale = 1;
  std::vector<int> pad_color;
  std::vector<double> mean, std;
  bool bgr = false;

  // Whether resized pixels are float32 with fractions.
  bool has_fractions() const { return detail::one_of(resample, {"bilinear", "bicubic", "lanczos", "area"}); }
};

// An input or output of a model file. A side of -1 is free; `layout` is NHWC for a picture, else empty.
struct Tensor {
  std::string name, dtype, layout;
  std::vector<int64_t> shape;
};

struct Variant {
  std::string name, model, precision, scheme, golden;
  std::vector<std::string> requires_features;
  std::vector<Tensor> inputs, outputs;
};

struct File {
  std::string path, sha256;
  uint64_t size = 0;
};

// An output: the first one is that to predict with. `golden` has a path for each variant.
struct Output {
  std::string name, task;
  int64_t classes = 0;
  std::vector<std::string> golden;
  double tolerance = 0;
};

// An input: a picture, or an array of `shape` without the batch.
struct Input {
  std::string name, golden;
  std::optional<Preprocess> picture;
  std::vector<int64_t> shape;
};

// `blank` is the class of a sequence that has no text; `output_range` are black and white of a picture.
struct Manifest {
  std::string name, labels;  // labels: a path, or empty
  int64_t blank = -1;
  std::optional<std::pair<double, double>> output_range;
  std::vector<Input> inputs;
  std::vector<Output> outputs;
  std::vector<Variant> variants;
  std::vector<File> files;

  const File& file(const std::string& path) const {
    for (const File& one : files)
      if (one.path == path) return one;
    throw Error("manifest-unlisted", "the manifest uses " + path + " but does not list it, so nothing vouches for it",
                "export the bundle again");
  }
  static Manifest parse(const std::string& text);
};

namespace detail {

constexpr int64_t kMaxSide = 4096, kMaxClasses = 1000000, kMaxFileSize = int64_t(1) << 40, kMaxNumbers = 1 << 26;
constexpr size_t kMaxFiles = 256, kMaxOutputs = 64;

inline bool of_letters(const std::string& text, const char* others) {
  return std::all_of(text.begin(), text.end(), [&](char letter) {
    const bool plain =
        (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || std::isdigit(uint8_t(letter));
    return plain || (letter != '\0' && std::strchr(others, letter) != nullptr);
  });
}

inline std::string word(const Json& value, const std::string& where) {
  const std::string& text = text_of(value, where);
  if (text.empty() || text.size() > 128 || std::strchr("._+-", text[0]) != nullptr || !of_letters(text, "._+-"))
    wrong(where + " must be of letters, digits and . _ + -, not " + cut(text));
  return text;
}

inline std::string path(const Json& value, const std::string& where) {
  const std::string& text = text_of(value, where);
  size_t parts = 0;
  bool right = text.size() <= 200;
  std::istringstream stream(text + "/");
  for (std::string part; right && std::getline(stream, part, '/'); ++parts)
    right = !part.empty() && part[0] != '.' && part[0] != '-' && of_letters(part, "._-");
  if (!right || parts > 8)
    throw Error("manifest-path", "the manifest names the path " + cut(text, 200) + ", which a bundle may not contain",
                "paths are relative, of letters, digits and . _ -, inside the bundle");
  if (one_of(folded(text), {"manifest.json", "manifest.sig"}))
    throw Error("manifest-path", "the manifest lists itself or its signature", "list every other file");
  return text;
}

inline double scaling_number(const Json& value, double least) {
  const double number = number_of(value, "scale, mean or std");
  if (!(std::fabs(number) <= 1e6) || number < least) wrong("preprocessing: scale, mean or std is out of range");
  return number;
}

inline void read_scaling(const Json& value, Preprocess& form) {
  if (value.kind != Json::object || value.members.size() != 4) wrong("preprocessing: scaling must have four keys");
  const Json *scale = value.find("scale"), *mean = value.find("mean"), *std = value.find("std"),
             *order = value.find("order");
  if (scale == nullptr || mean == nullptr || std == nullptr || order == nullptr)
    wrong("preprocessing: scaling must have the keys mean, order, scale, std");
  form.scale = scaling_number(*scale, 1e-6);
  for (const Json& one : list_of(*mean, "mean")) form.mean.push_back(scaling_number(one, -1e6));
  for (const Json& one : list_of(*std, "std")) form.std.push_back(scaling_number(one, 1e-6));
  form.bgr = text_of(*order, "order") == "bgr";
  const size_t channels = size_t(form.channels);
  if (!one_of(order->text, {"rgb", "bgr"}) || form.mean.size() != channels || form.std.size() != channels ||
      (form.bgr && channels != 3))
    wrong("preprocessing: the scaling does not fit the channels");
}

inline Preprocess read_picture(const Json& value) {
  static const std::set<std::string> known = {"height",  "width",    "channels",      "mode",      "resize",
                                              "scaling", "resample", "crop_fraction", "pad_color", "background"};
  if (value.kind != Json::object) wrong("preprocess must be an object");
  for (const auto& member : value.members)
    if (known.count(member.first) == 0) wrong("preprocessing: unknown key " + cut(member.first));
  const auto need = [&](const char* key) -> const Json& {
    const Json* found = value.find(key);
    if (found == nullptr) wrong(std::string("preprocessing: ") + key + " is missing");
    return *found;
  };
  Preprocess form;
  form.height = int(whole_of(need("height"), "height", 1, kMaxSide));
  form.width = int(whole_of(need("width"), "width", 1, kMaxSide));
  form.channels = int(whole_of(need("channels"), "channels", 1, 3));
  form.mode = text_of(need("mode"), "mode");
  form.resize = text_of(need("resize"), "resize");
  if (form.channels == 2) wrong("channels must be 1 or 3, not 2");
  if (!one_of(form.mode, {"tf", "caffe", "torch", "none", "custom"})) wrong("unknown mode " + cut(form.mode));
  if (form.channels == 1 && one_of(form.mode, {"caffe", "torch"}))
    wrong("mode " + form.mode + " is for three channels");
  if (!one_of(form.resize, {"squash", "crop", "fit", "pad"})) wrong("unknown resize " + cut(form.resize));
  if (const Json* given = value.find("resample")) form.resample = text_of(*given, "resample");
  if (!one_of(form.resample, {"nearest", "bilinear", "bilinear-antialias", "bicubic", "bicubic-antialias", "lanczos",
                              "lanczos-antialias", "area"}))
    wrong("unknown resample " + cut(form.resample));
  if (form.resize == "fit" && form.has_fractions()) wrong("resize fit does not go with resample " + form.resample);
  if (const Json* given = value.find("crop_fraction")) form.crop_fraction = number_of(*given, "crop_fraction");
  if (!(form.crop_fraction >= 0.1 && form.crop_fraction <= 1)) wrong("crop_fraction must be 0.1 to 1");
  if (form.resize != "crop" && form.crop_fraction != 0.875) wrong("crop_fraction is for resize crop");
  if (const Json* given = value.find("pad_color")) {
    for (const Json& one : list_of(*given, "pad_color"))
      form.pad_color.push_back(int(whole_of(one, "pad_color", 0, 255)));
    const size_t count = form.pad_color.size();
    if (form.resize != "pad" || (count != 1 && count != size_t(form.channels))) wrong("pad_color does not fit");
  }
  if (const Json* given = value.find("background")) form.background = text_of(*given, "background");
  if (!one_of(form.background, {"drop", "white", "black"})) wrong("unknown background " + cut(form.background));
  const Json* scaling = value.find("scaling");
  if ((form.mode == "custom") != (scaling != nullptr)) wrong("scaling belongs to mode custom, and only to it");
  if (scaling != nullptr) read_scaling(*scaling, form);
  return form;
}

inline void read_array(const Json& value, Input& input) {
  const Json *shape = value.find("shape"), *ends_of = value.find("range");
  if (shape == nullptr || ends_of == nullptr || value.members.size() != 2)
    wrong("preprocessing: an array must have the keys range and shape");
  int64_t numbers = 1;
  for (const Json& side : list_of(*shape, "shape")) {
    input.shape.push_back(whole_of(side, "a side of an array", 1, kMaxNumbers));
    if ((numbers *= input.shape.back()) > kMaxNumbers || input.shape.size() > 8) wrong("an array is too large");
  }
  const Json& range = *ends_of;
  if (range.kind == Json::null) return;
  const std::vector<Json>& ends = list_of(range, "range");
  if (ends.size() != 2 || !(number_of(ends[0], "range") <= number_of(ends[1], "range")))
    wrong("range must be two numbers");
}

inline Input read_input(std::string name, const Json& preprocess, const Json& golden) {
  Input input;
  input.name = std::move(name);
  input.golden = path(golden, "golden");
  if (preprocess.kind == Json::object && preprocess.find("shape") != nullptr) {
    read_array(preprocess, input);
  } else {
    input.picture = read_picture(preprocess);
    input.shape = {input.picture->height, input.picture->width, input.picture->channels};
  }
  return input;
}

inline Tensor read_tensor(const Json& value, bool is_input) {
  std::set<std::string> keys = {"name", "dtype", "shape"};
  if (is_input) keys.insert("layout");
  record(value, keys, is_input ? "an input of a variant" : "an output of a variant");
  Tensor tensor;
  tensor.name = text_of(*value.find("name"), "the name of an input or output");
  tensor.dtype = text_of(*value.find("dtype"), "dtype");
  for (const Json& side : list_of(*value.find("shape"), "shape"))
    tensor.shape.push_back(side.kind == Json::null ? -1 : whole_of(side, "a side", 1, (int64_t(1) << 31) - 1));
  const bool known = is_input ? one_of(tensor.dtype, {"uint8", "float32"})
                              : one_of(tensor.dtype, {"float32", "int8", "uint8", "int64"});
  if (tensor.name.empty() || !known || tensor.shape.empty() || tensor.shape.size() > 9)
    wrong("the tensor " + cut(tensor.name) + " has a wrong name, dtype or number of axes");
  if (!is_input) return tensor;
  const Json& layout = *value.find("layout");
  if (layout.kind != Json::null) tensor.layout = text_of(layout, "layout");
  if ((!tensor.layout.empty() && tensor.layout != "NHWC") || (layout.kind == Json::string && tensor.layout.empty()) ||
      (tensor.dtype == "uint8" && tensor.layout.empty()))
    wrong("the input " + cut(tensor.name) + " has a wrong layout");
  return tensor;
}

inline Variant read_variant(const Json& value) {
  record(value, {"name", "model", "precision", "scheme", "golden", "requires", "inputs", "outputs"}, "a variant");
  Variant variant;
  variant.name = word(*value.find("name"), "a variant's name");
  variant.model = path(*value.find("model"), "model");
  variant.precision = text_of(*value.find("precision"), "precision");
  variant.scheme = word(*value.find("scheme"), "scheme");
  variant.golden = path(*value.find("golden"), "golden");
  if (!one_of(variant.precision, {"fp32", "fp16", "int8"})) wrong("unknown precision of variant " + variant.name);
  for (const Json& one : list_of(*value.find("requires"), "requires"))
    variant.requires_features.push_back(word(one, "requires"));
  for (const Json& one : list_of(*value.find("inputs"), "inputs")) variant.inputs.push_back(read_tensor(one, true));
  for (const Json& one : list_of(*value.find("outputs"), "outputs")) variant.outputs.push_back(read_tensor(one, false));
  return variant;
}

inline File read_file_entry(const Json& value) {
  record(value, {"path", "sha256", "size"}, "a file");
  File file;
  file.path = path(*value.find("path"), "path");
  file.sha256 = text_of(*value.find("sha256"), "sha256");
  const bool hex = std::all_of(file.sha256.begin(), file.sha256.end(),
                               [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (file.sha256.size() != 64 || !hex)
    wrong("the sha256 of " + file.path + " must be 64 lower-case hexadecimal digits");
  file.size = uint64_t(whole_of(*value.find("size"), "the size of " + file.path, 0, kMaxFileSize));
  return file;
}

inline void check_task(const std::string& task, int64_t classes) {
  const bool counts = classes >= 1 && classes <= kMaxClasses;
  const bool right = task == "classification"               ? counts
                     : one_of(task, {"features", "values"}) ? classes == 0
                     : task == "image"                      ? classes == 0 || (classes >= 2 && classes <= 256)
                                                            : task == "sequence" && counts && classes >= 2;
  if (!right) wrong("the task " + cut(task) + " with " + std::to_string(classes) + " classes");
}

inline double read_tolerance(const Json& value) {
  const double tolerance = number_of(value, "tolerance");
  if (!(tolerance > 0)) wrong("the golden tolerance must be a positive number");
  return tolerance;
}

inline int64_t read_classes(const Json& value) {
  return whole_of(value, "classes", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
}

// The keys that belong to one task only: `blank` and `output_range`.
inline void read_task_keys(const Json& top, Manifest& manifest) {
  const Output& first = manifest.outputs[0];
  const Json &blank = *top.find("blank"), &range = *top.find("output_range");
  if ((first.task == "sequence") != (blank.kind != Json::null)) wrong("blank is a class of a sequence");
  if (blank.kind != Json::null) manifest.blank = whole_of(blank, "blank", 0, first.classes - 1);
  if (blank.kind != Json::null && manifest.labels.empty()) wrong("a sequence needs labels: the text of each class");
  if ((first.task == "image" && first.classes == 0) != (range.kind != Json::null))
    wrong("output_range is for pictures");
  if (range.kind == Json::null) return;
  const std::vector<Json>& ends = list_of(range, "output_range");
  if (ends.size() != 2 || !(number_of(ends[0], "output_range") < number_of(ends[1], "output_range")))
    wrong("output_range must be two numbers, the smaller first");
  manifest.output_range = {ends[0].number, ends[1].number};
}

[[noreturn]] inline void duplicate(const std::string& problem) {
  throw Error("manifest-duplicate", "the manifest has " + problem, "export it again");
}

// Names must differ in more than case: some file systems would hold one file for two entries. (Unicode letters of
// `input_name` and `output_name` are compared as they are.)
inline void check_distinct(const std::vector<std::string>& names, const std::string& kind) {
  std::set<std::string> seen;
  for (const std::string& name : names)
    if (!seen.insert(folded(name)).second) duplicate("two entries for the " + kind + " " + name);
}

inline void check_names(const Manifest& manifest) {
  std::vector<std::string> ends, variants, files;
  std::set<std::string> inputs;
  for (const Input& input : manifest.inputs) {
    ends.push_back(input.name);
    if (!inputs.insert(folded(input.name)).second) wrong("two inputs have one name");
  }
  for (const Output& output : manifest.outputs) ends.push_back(output.name);
  for (const Variant& variant : manifest.variants) variants.push_back(variant.name);
  for (const File& file : manifest.files) files.push_back(file.path);
  check_distinct(ends, "input or output");
  check_distinct(variants, "variant");
  check_distinct(files, "file");
  std::set<std::string> paths;
  for (const std::string& file : files) paths.insert(folded(file));
  for (const std::string& one : paths)
    for (size_t slash = one.find('/'); slash != std::string::npos; slash = one.find('/', slash + 1))
      if (paths.count(one.substr(0, slash)) != 0) duplicate("a file where " + one + " needs a folder");
}

inline void check_tensors(const Manifest& manifest, const Variant& variant) {
  bool right = variant.inputs.size() == manifest.inputs.size() && variant.outputs.size() >= manifest.outputs.size();
  for (size_t index = 0; right && index < manifest.inputs.size(); ++index)
    right = variant.inputs[index].name == manifest.inputs[index].name;
  for (size_t index = 0; right && index < manifest.outputs.size(); ++index)
    right = variant.outputs[index].name == manifest.outputs[index].name;
  if (!right) wrong("the inputs and outputs of the variant " + variant.name + " are not those of the manifest");
  for (size_t index = 0; index < manifest.inputs.size(); ++index) {
    const Tensor& tensor = variant.inputs[index];
    const Input& input = manifest.inputs[index];
    bool fits = input.picture.has_value() == (tensor.layout == "NHWC") && tensor.shape.size() == input.shape.size() + 1;
    for (size_t axis = 0; fits && axis < input.shape.size(); ++axis)
      fits = tensor.shape[axis + 1] == -1 || tensor.shape[axis + 1] == input.shape[axis];
    if (!fits) wrong("the input " + tensor.name + " does not take what the preprocessing makes");
  }
}

inline void check_listed(const Manifest& manifest) {
  if (!manifest.labels.empty()) manifest.file(manifest.labels);
  for (const Input& input : manifest.inputs) manifest.file(input.golden);
  for (const Variant& variant : manifest.variants) manifest.file(variant.model);
  for (const Output& output : manifest.outputs)
    for (const std::string& golden : output.golden) manifest.file(golden);
}

inline Output read_output(const Json& one) {
  record(one, {"name", "task", "classes", "golden", "tolerance"}, "an output");
  Output output;
  output.name = word(*one.find("name"), "an output's name");
  output.task = text_of(*one.find("task"), "task");
  output.classes = read_classes(*one.find("classes"));
  for (const Json& golden : list_of(*one.find("golden"), "golden")) output.golden.push_back(path(golden, "golden"));
  output.tolerance = read_tolerance(*one.find("tolerance"));
  return output;
}

}  // namespace detail

// Reads a manifest of schema 5. Errors: manifest-*, unknown-schema.
inline Manifest Manifest::parse(const std::string& text) {
  using namespace detail;
  const Json top = JsonReader::read(text);
  if (top.kind != Json::object) wrong("it must be an object");
  const Json* schema = top.find("schema");
  if (schema == nullptr || schema->kind != Json::integer || schema->number != 5)
    throw Error("unknown-schema", "this program reads bundles of schema 5, and this is another one",
                "export the bundle again with a new xxdeploy");
  record(top,
         {"schema", "name", "task", "input_name", "output_name", "preprocess", "classes", "labels", "variants",
          "golden", "files", "tools", "source", "evidence", "more_outputs", "output_range", "blank", "more_inputs"},
         "the manifest");
  const auto at = [&](const char* key) -> const Json& { return *top.find(key); };
  Manifest manifest;
  manifest.name = word(at("name"), "name");
  for (const char* key : {"source", "evidence", "tools"})
    if (at(key).kind != Json::object) wrong(std::string(key) + " must be an object");
  for (const auto& tool : at("tools").members) text_of(tool.second, "a version in tools");
  if (at("labels").kind != Json::null) manifest.labels = path(at("labels"), "labels");

  record(at("golden"), {"inputs", "tolerance"}, "golden");
  manifest.inputs.push_back(
      read_input(text_of(at("input_name"), "input_name"), at("preprocess"), *at("golden").find("inputs")));
  for (const Json& one : list_of(at("more_inputs"), "more_inputs")) {
    record(one, {"name", "preprocess", "golden"}, "an input");
    manifest.inputs.push_back(
        read_input(word(*one.find("name"), "an input's name"), *one.find("preprocess"), *one.find("golden")));
  }
  for (const Json& one : list_of(at("files"), "files")) manifest.files.push_back(read_file_entry(one));
  for (const Json& one : list_of(at("variants"), "variants")) manifest.variants.push_back(read_variant(one));

  Output first;
  first.name = text_of(at("output_name"), "output_name");
  first.task = text_of(at("task"), "task");
  first.classes = read_classes(at("classes"));
  first.tolerance = read_tolerance(*at("golden").find("tolerance"));
  for (const Variant& variant : manifest.variants) first.golden.push_back(variant.golden);
  manifest.outputs.push_back(first);
  for (const Json& one : list_of(at("more_outputs"), "more_outputs")) manifest.outputs.push_back(read_output(one));

  if (manifest.inputs[0].name.empty() || first.name.empty()) wrong("input_name and output_name must not be empty");
  if (manifest.variants.empty()) wrong("there must be at least one variant");
  if (manifest.files.size() > kMaxFiles || manifest.outputs.size() > kMaxOutputs ||
      manifest.inputs.size() > kMaxOutputs)
    wrong("there are too many files, inputs or outputs");
  for (const Output& output : manifest.outputs) {
    check_task(output.task, output.classes);
    if (output.golden.size() != manifest.variants.size())
      wrong("the output " + output.name + " needs a golden file for each variant");
  }
  if (!manifest.labels.empty() && first.classes == 0) wrong("labels name classes, and there are none");
  read_task_keys(top, manifest);
  for (const Variant& variant : manifest.variants) check_tensors(manifest, variant);
  check_names(manifest);
  check_listed(manifest);
  return manifest;
}

// --------------------------------------------------------------------------------------------------------------- files

namespace detail {

// SHA-256 (FIPS 180-4) of `data`, in hexadecimal.
inline std::string sha256(const std::string& data) {
  static const uint32_t k[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
      0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
      0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
      0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
      0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
      0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
      0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const auto turn = [](uint32_t value, int bits) { return value >> bits | value << (32 - bits); };
  const auto block = [&](const unsigned char* bytes) {
    uint32_t w[64];
    for (int i = 0; i < 16; ++i)
      w[i] = uint32_t(bytes[4 * i]) << 24 | uint32_t(bytes[4 * i + 1]) << 16 | uint32_t(bytes[4 * i + 2]) << 8 |
             bytes[4 * i + 3];
    for (int i = 16; i < 64; ++i) {
      const uint32_t low = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3;
      w[i] = w[i - 16] + low + w[i - 7] + (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
    }
    uint32_t v[8];
    std::copy(state, state + 8, v);
    for (int i = 0; i < 64; ++i) {
      const uint32_t one =
          v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
      const uint32_t two =
          (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
      for (int j = 7; j > 0; --j) v[j] = v[j - 1];
      v[4] += one;
      v[0] = one + two;
    }
    for (int i = 0; i < 8; ++i) state[i] += v[i];
  };
  const unsigned char* bytes = reinterpret_cast<const unsigned char*>(data.data());
  const size_t whole = data.size() / 64 * 64;
  for (size_t at = 0; at < whole; at += 64) block(bytes + at);
  unsigned char tail[128] = {0};
  const size_t rest = data.size() - whole, length = rest < 56 ? 64 : 128;
  if (rest != 0) std::memcpy(tail, bytes + whole, rest);
  tail[rest] = 0x80;
  for (size_t i = 0; i < 8; ++i) tail[length - 1 - i] = static_cast<unsigned char>(uint64_t(data.size()) * 8 >> 8 * i);
  for (size_t at = 0; at < length; at += 64) block(tail + at);
  std::string hex;
  for (uint32_t part : state)
    for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[part >> shift & 15];
  return hex;
}

// At most `limit` bytes of a regular file inside `root`.
inline std::string read_inside(const std::filesystem::path& root, const std::string& name, uint64_t limit) {
  namespace fs = std::filesystem;
  std::error_code failed;
  const fs::path real = fs::canonical(root / fs::u8path(name), failed);
  if (failed) throw Error("file-missing", "the bundle has no file " + name, "copy or export the bundle again");
  if (std::mismatch(root.begin(), root.end(), real.begin(), real.end()).first != root.end())
    throw Error("file-outside", name + " is a link that leads out of the bundle",
                "copy the bundle with its files (cp -L), not with links");
  if (!fs::is_regular_file(real, failed))
    throw Error("file-not-regular", name + " is not a regular file", "copy or export the bundle again");
  std::ifstream file(real, std::ios::binary);
  std::string data;
  std::vector<char> block(size_t(1) << 20);
  while (file && limit > 0) {
    file.read(block.data(), std::streamsize(std::min<uint64_t>(limit, block.size())));
    data.append(block.data(), size_t(file.gcount()));
    limit -= uint64_t(file.gcount());
  }
  if (!file.eof() && limit > 0)
    throw Error("file-unreadable", name + " cannot be read", "check the permissions and the disk");
  return data;
}

// The bytes of one file, once they have the listed size and hash.
inline std::string read_listed(const std::filesystem::path& root, const File& file) {
  std::string data = read_inside(root, file.path, file.size + 1);
  if (data.size() != file.size)
    throw Error("file-size",
                file.path + " has " + (data.size() > file.size ? "more" : std::to_string(data.size())) +
                    " bytes, the manifest says " + std::to_string(file.size),
                "the bundle is damaged: copy or export it again");
  if (sha256(data) != file.sha256)
    throw Error("file-hash", file.path + " is not the file that was exported",
                "the bundle is damaged or was changed: copy or export it again");
  return data;
}

}  // namespace detail

// An array of a .npy file of a bundle: `bytes` holds uint8, `floats` float32.
struct Array {
  std::vector<int64_t> shape;
  bool is_uint8 = false;
  std::vector<uint8_t> bytes;
  std::vector<float> floats;

  size_t size() const { return is_uint8 ? bytes.size() : floats.size(); }
};

// Reads a .npy of version 1.0, C order, uint8 or little-endian float32. The shape must account for every byte.
// Error: array-invalid.
inline Array parse_npy(const std::string& data, const std::string& name) {
  const auto fail = [&]() -> Array {
    throw Error("array-invalid", name + " is not a .npy file of a bundle", "export the bundle again");
  };
  if (data.size() < 10 || std::memcmp(data.data(), "\x93NUMPY\x01\x00", 8) != 0) return fail();
  const size_t length = size_t(uint8_t(data[8])) | size_t(uint8_t(data[9])) << 8;
  if (data.size() < 10 + length) return fail();
  const std::string header = data.substr(10, length);
  const std::string bytes = "{'descr': '|u1', 'fortran_order': False, 'shape': (";
  const std::string floats = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  Array array;
  array.is_uint8 = header.compare(0, bytes.size(), bytes) == 0;
  if (!array.is_uint8 && header.compare(0, floats.size(), floats) != 0) return fail();
  size_t at = bytes.size();
  uint64_t numbers = 1;
  while (at < header.size() && header[at] != ')') {
    uint64_t side = 0;
    const size_t first = at;
    for (; at < header.size() && std::isdigit(uint8_t(header[at])); ++at)
      if ((side = side * 10 + uint64_t(header[at] - '0')) > uint64_t(1) << 40) return fail();
    if (at == first || array.shape.size() >= 32) return fail();
    if (side != 0 && numbers > (uint64_t(1) << 40) / side) return fail();
    numbers *= side;
    array.shape.push_back(int64_t(side));
    while (at < header.size() && (header[at] == ',' || header[at] == ' ')) ++at;
  }
  std::string told;  // the shape as numpy writes it, and nothing but spaces after it
  for (size_t axis = 0; axis < array.shape.size(); ++axis)
    told += (axis == 0 ? "" : ", ") + std::to_string(array.shape[axis]);
  told += array.shape.size() == 1 ? ",), }" : "), }";
  const size_t end = bytes.size() + told.size();
  if (header.compare(bytes.size(), told.size(), told) != 0 || header.back() != '\n' ||
      header.find_first_not_of(' ', end) != header.size() - 1)
    return fail();
  const size_t held = data.size() - 10 - length;
  if (held != numbers * (array.is_uint8 ? 1 : 4)) return fail();
  const char* start = data.data() + 10 + length;
  if (array.is_uint8) {
    array.bytes.assign(start, start + held);
  } else {
    array.floats.resize(size_t(numbers));
    if (held != 0) std::memcpy(array.floats.data(), start, held);
  }
  return array;
}

// Reads the class names: one a line, UTF-8. `characters`: a name may be a space. Error: labels-invalid.
inline std::vector<std::string> parse_labels(std::string text, int64_t classes, bool characters) {
  const auto fail = [](const std::string& why) {
    throw Error("labels-invalid", "the labels file is wrong: " + why, "export again with one class name a line");
  };
  if (!detail::is_utf8(text)) fail("it is not UTF-8");
  std::vector<std::string> names;
  if (!text.empty() && text.back() == '\n') text.pop_back();
  for (size_t start = 0; !text.empty() && start <= text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    names.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  if (int64_t(names.size()) != classes)
    fail("it has " + std::to_string(names.size()) + " names for " + std::to_string(classes) + " classes");
  for (const std::string& name : names) {
    size_t letters = 0;
    bool blank = true;
    for (size_t at = 0; at < name.size(); ++letters) {
      const int32_t point = detail::code_point(name, at);  // the white space of Unicode
      blank = blank && (point == ' ' || point == 0xA0 || point == 0x1680 || (point >= 0x2000 && point <= 0x200A) ||
                        point == 0x2028 || point == 0x2029 || point == 0x202F || point == 0x205F || point == 0x3000);
    }
    if (name.empty() || (blank && !characters) || letters > 1000 || detail::has_control(name))
      fail("a name is empty, too long or has control characters");
  }
  return names;
}

// -------------------------------------------------------------------------------------------------------------- pixels

// Decoded pixels that stay the caller's: (height, width, channels) uint8, channels 3 (RGB) or 1 (gray).
struct Picture {
  const uint8_t* pixels = nullptr;
  int height = 0, width = 0, channels = 3;
};

namespace detail {

constexpr int64_t kMaxLength = 4000000, kMaxPixels = 89478485;

// Values of 0..255: `bytes`, or `floats` with fractions.
struct Pixels {
  int height = 0, width = 0, channels = 3;
  std::vector<uint8_t> bytes;
  std::vector<float> floats;
};

inline void check_pixels(int64_t width, int64_t height, int64_t most) {
  if (width > kMaxLength || height > kMaxLength || width * height > most)
    throw Error("image-too-large", "a picture of " + std::to_string(width) + " x " + std::to_string(height) + " pixels",
                "scale the picture down first");
}

// Converts as Pillow does: ITU-R 601 luma for gray.
inline Pixels converted(const Picture& picture, int channels, int64_t most) {
  if (picture.pixels == nullptr || picture.height < 1 || picture.width < 1 ||
      (picture.channels != 1 && picture.channels != 3))
    throw Error("image-array", "a picture must have pixels and 1 or 3 channels",
                "give RGB or gray, and drop an alpha channel");
  check_pixels(picture.width, picture.height, most);
  Pixels made{picture.height, picture.width, channels, {}, {}};
  const size_t count = size_t(picture.height) * size_t(picture.width);
  made.bytes.resize(count * size_t(channels));
  const uint8_t* from = picture.pixels;
  if (channels == picture.channels) {
    std::memcpy(made.bytes.data(), from, made.bytes.size());
  } else if (channels == 3) {
    for (size_t i = 0; i < count; ++i) std::fill_n(made.bytes.begin() + int64_t(3 * i), 3, from[i]);
  } else {
    for (size_t i = 0; i < count; ++i)
      made.bytes[i] =
          uint8_t((from[3 * i] * 19595u + from[3 * i + 1] * 38470u + from[3 * i + 2] * 7471u + 0x8000u) >> 16);
  }
  return made;
}

// Part of a picture, in pixels; only `fit` has fractions.
struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
};

// The pixels that one place of an axis reads, from `first` on, with their weights.
template <typename Weight>
struct Taps {
  std::vector<int> places;      // k for each place, one after the other
  std::vector<Weight> weights;  // the same
  int each = 0;
};

inline double antialias_filter(const std::string& name, double x) {
  constexpr double pi = 3.14159265358979323846;
  if (name == "bilinear-antialias") return std::max(0.0, 1.0 - std::fabs(x));
  if (name == "bicubic-antialias") {
    constexpr double a = -0.5;
    x = std::fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
  }
  const auto sinc = [](double value) { return value == 0.0 ? 1.0 : std::sin(value * pi) / (value * pi); };
  return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

// Weights of Pillow's resampling in 22 bits of fraction (ImagingResample). The box has Pillow's precision: float32.
inline Taps<int64_t> antialias_taps(const std::string& name, int old, float from, float to, int size) {
  const double reach = name == "bilinear-antialias" ? 1.0 : name == "bicubic-antialias" ? 2.0 : 3.0;
  const double scale = double(to - from) / size, wide = std::max(scale, 1.0), support = reach * wide;
  Taps<int64_t> taps;
  taps.each = int(std::ceil(support)) * 2 + 1;
  for (int place = 0; place < size; ++place) {
    const double center = double(from) + (place + 0.5) * scale, narrow = 1.0 / wide;
    const int first = std::max(int(center - support + 0.5), 0), last = std::min(int(center + support + 0.5), old);
    std::vector<double> weights(size_t(taps.each), 0.0);
    double sum = 0;
    for (int x = first; x < last; ++x) {
      const double weight = antialias_filter(name, (x - center + 0.5) * narrow);
      weights[size_t(x - first)] = weight;
      sum += weight;
    }
    for (int k = 0; k < taps.each; ++k) {
      const double weight =
          (k < last - first && sum != 0.0 ? weights[size_t(k)] / sum : weights[size_t(k)]) * (1 << 22);
      taps.weights.push_back(weight < 0 ? int64_t(weight - 0.5) : int64_t(weight + 0.5));
      taps.places.push_back(k < last - first ? first + k : std::min(first, old - 1));
    }
  }
  return taps;
}

// The place of each new pixel among the old ones, half-pixel centers, in TensorFlow's float32.
inline float place_of(int index, float scale) { return (float(index) + 0.5f) * scale - 0.5f; }

// Drops taps outside the picture and lets the weights of each place add up to 1.
template <size_t N>
void add_inside(Taps<float>& taps, int64_t first, std::array<double, N> weights, int old) {
  double sum = 0;
  for (size_t k = 0; k < N; ++k) {
    const int64_t at = first + int64_t(k);
    if (at < 0 || at >= old) weights[k] = 0;
    sum += weights[k];
    taps.places.push_back(int(std::clamp<int64_t>(at, 0, old - 1)));
  }
  for (double weight : weights) taps.weights.push_back(float(weight / sum));
  taps.each = int(N);
}

inline Taps<float> linear_taps(int old, int size) {
  Taps<float> taps;
  taps.each = 2;
  for (int index = 0; index < size; ++index) {
    const float place = place_of(index, float(old) / float(size)), lower = std::floor(place), share = place - lower;
    taps.places.push_back(int(std::max(lower, 0.0f)));
    taps.places.push_back(int(std::min(std::ceil(place), float(old - 1))));
    taps.weights.push_back(1.0f - share);
    taps.weights.push_back(share);
  }
  return taps;
}

// Keys' cubic with a = -0.5, from a table of 1024 steps a pixel.
inline Taps<float> cubic_taps(int old, int size) {
  Taps<float> taps;
  for (int index = 0; index < size; ++index) {
    const float place = place_of(index, float(old) / float(size)), lower = std::floor(place);
    const double share = double(std::nearbyint((place - lower) * 1024.0f) / 1024.0f);
    std::array<double, 4> weights{};
    for (size_t k = 0; k < 4; ++k) {
      const double far = std::fabs(share - (double(k) - 1));
      weights[k] = far <= 1 ? (1.5 * far - 2.5) * far * far + 1 : ((-0.5 * far + 2.5) * far - 4) * far + 2;
    }
    add_inside(taps, int64_t(lower) - 1, weights, old);
  }
  return taps;
}

inline Taps<float> lanczos_taps(int old, int size) {
  constexpr double pi = 3.14159265358979323846;
  const auto sinc = [](double x) { return x == 0 ? 1.0 : std::sin(pi * x) / (pi * x); };
  Taps<float> taps;
  for (int index = 0; index < size; ++index) {
    const float place = place_of(index, 1.0f / (float(size) / float(old)));
    const int64_t first = int64_t(std::floor(place)) - 2;
    std::array<double, 6> weights{};
    for (size_t k = 0; k < 6; ++k) {
      const double far = std::fabs(double(first + int64_t(k)) - double(place));
      weights[k] = far < 3 ? sinc(far) * sinc(far / 3) : 0.0;
    }
    add_inside(taps, first, weights, old);
  }
  return taps;
}

// The average over the old pixels, in parts, that a new pixel covers.
inline Taps<float> area_taps(int old, int size) {
  const float scale = float(old) / float(size);
  Taps<float> taps;
  for (int index = 0; index < size; ++index) {
    const float first = float(index) * scale, last = float(index + 1) * scale;
    taps.each = std::max(taps.each, int(std::ceil(last) - std::floor(first)));
  }
  for (int index = 0; index < size; ++index) {
    const float first = float(index) * scale, last = float(index + 1) * scale;
    for (int k = 0; k < taps.each; ++k) {
      const int64_t at = int64_t(std::floor(first)) + k;
      double covered = std::max(std::min(double(at + 1), double(last)) - std::max(double(at), double(first)), 0.0);
      if (double(at) < double(first) && double(at + 1) > double(last)) covered = double(scale);
      taps.places.push_back(int(std::clamp<int64_t>(at, 0, old - 1)));
      taps.weights.push_back(float(covered / double(scale)));
    }
  }
  return taps;
}

template <typename Weight>
Taps<Weight> part_of(const Taps<Weight>& taps, int first, int last) {
  const int64_t from = int64_t(first) * taps.each, to = int64_t(last) * taps.each;
  return {{taps.places.begin() + from, taps.places.begin() + to},
          {taps.weights.begin() + from, taps.weights.begin() + to},
          taps.each};
}

inline uint8_t clipped(int64_t sum) { return uint8_t(std::clamp<int64_t>(sum >> 22, 0, 255)); }

// One pass of Pillow's resampling: along the lines, or along the columns. Integer sums, so their order is free.
inline Pixels antialias_pass(const Pixels& from, const Taps<int64_t>& taps, bool along_lines) {
  const int count = int(taps.places.size()) / taps.each, channels = from.channels;
  Pixels made{along_lines ? from.height : count, along_lines ? count : from.width, channels, {}, {}};
  made.bytes.resize(size_t(made.height) * size_t(made.width) * size_t(channels));
  const size_t old_line = size_t(from.width) * size_t(channels), line = size_t(made.width) * size_t(channels);
  for (int y = 0; y < made.height; ++y) {
    for (size_t x = 0; x < line; ++x) {
      const size_t place = (along_lines ? x / size_t(channels) : size_t(y)) * size_t(taps.each),
                   channel = x % size_t(channels);
      int64_t sum = int64_t(1) << 21;
      for (size_t k = 0; k < size_t(taps.each); ++k) {
        const size_t at = size_t(taps.places[place + k]);
        const size_t pixel = along_lines ? size_t(y) * old_line + at * size_t(channels) + channel : at * old_line + x;
        sum += taps.weights[place + k] * from.bytes[pixel];
      }
      made.bytes[size_t(y) * line + x] = clipped(sum);
    }
  }
  return made;
}

inline Pixels cropped(const Pixels& from, int left, int top, int width, int height) {
  Pixels made{height, width, from.channels, {}, {}};
  const size_t line = size_t(width) * size_t(from.channels), old_line = size_t(from.width) * size_t(from.channels);
  made.bytes.resize(size_t(height) * line);
  for (int y = 0; y < height; ++y)
    std::memcpy(made.bytes.data() + size_t(y) * line,
                from.bytes.data() + size_t(top + y) * old_line + size_t(left) * size_t(from.channels), line);
  return made;
}

inline Pixels nearest(const Pixels& from, const Box& box, int width, int height) {
  const auto places = [](float start, float end, int size, int old) {  // sums up steps, as Pillow does
    const double step = double(end - start) / size;
    std::vector<int> found;
    double at = double(start) + step * 0.5;
    for (int index = 0; index < size; ++index, at += step) found.push_back(std::clamp(int(at), 0, old - 1));
    return found;
  };
  const std::vector<int> columns = places(float(box.left), float(box.right), width, from.width);
  const std::vector<int> rows = places(float(box.top), float(box.bottom), height, from.height);
  Pixels made{height, width, from.channels, {}, {}};
  const size_t channels = size_t(from.channels);
  for (int row : rows)
    for (int column : columns) {
      const uint8_t* pixel = from.bytes.data() + (size_t(row) * size_t(from.width) + size_t(column)) * channels;
      made.bytes.insert(made.bytes.end(), pixel, pixel + channels);
    }
  return made;
}

// Interpolates first in x, then in y, in the order of TensorFlow's ResizeBilinear.
inline Pixels bilinear(const Pixels& from, const Taps<float>& rows, const Taps<float>& columns) {
  const size_t channels = size_t(from.channels), width = columns.places.size() / 2, height = rows.places.size() / 2;
  Pixels made{int(height), int(width), from.channels, {}, {}};
  made.floats.resize(height * width * channels);
  const auto inner = [&](size_t line, size_t x, size_t channel) {
    const uint8_t* start = from.bytes.data() + line * size_t(from.width) * channels + channel;
    const float left = float(start[size_t(columns.places[2 * x]) * channels]);
    float right = float(start[size_t(columns.places[2 * x + 1]) * channels]);
    right -= left;
    right *= columns.weights[2 * x + 1];
    return left + right;
  };
  for (size_t y = 0; y < height; ++y)
    for (size_t x = 0; x < width; ++x)
      for (size_t channel = 0; channel < channels; ++channel) {
        const float upper = inner(size_t(rows.places[2 * y]), x, channel);
        float lower = inner(size_t(rows.places[2 * y + 1]), x, channel);
        lower -= upper;
        lower *= rows.weights[2 * y + 1];
        made.floats[(y * width + x) * channels + channel] = upper + lower;
      }
  return made;
}

// Adds up weighted lines, then weighted columns, in float32.
inline Pixels separable(const Pixels& from, const Taps<float>& rows, const Taps<float>& columns) {
  const size_t channels = size_t(from.channels), old_line = size_t(from.width) * channels;
  const size_t width = columns.places.size() / size_t(columns.each), height = rows.places.size() / size_t(rows.each);
  Pixels made{int(height), int(width), from.channels, {}, {}};
  made.floats.assign(height * width * channels, 0.0f);
  std::vector<float> line(old_line);
  for (size_t y = 0; y < height; ++y) {
    std::fill(line.begin(), line.end(), 0.0f);
    for (size_t k = y * size_t(rows.each); k < (y + 1) * size_t(rows.each); ++k) {
      const uint8_t* taken = from.bytes.data() + size_t(rows.places[k]) * old_line;
      for (size_t x = 0; x < old_line; ++x) {
        const float weighted = float(taken[x]) * rows.weights[k];
        line[x] += weighted;
      }
    }
    float* row = made.floats.data() + y * width * channels;
    for (size_t k = 0; k < size_t(columns.each); ++k)
      for (size_t x = 0; x < width; ++x)
        for (size_t channel = 0; channel < channels; ++channel) {
          const size_t tap = x * size_t(columns.each) + k;
          const float weighted = line[size_t(columns.places[tap]) * channels + channel] * columns.weights[tap];
          row[x * channels + channel] += weighted;
        }
  }
  return made;
}

// Brings the box of a picture to (width, height) by a name of `resample`. `part` is the part of the result that is
// wanted.
inline Pixels resampled(const Pixels& from, int width, int height, const std::string& name, const Box& box,
                        const std::array<int, 4>& part) {
  const bool whole = box.left == std::floor(box.left) && box.top == std::floor(box.top);
  if (box.right - box.left == width && box.bottom - box.top == height && whole)
    return cropped(from, int(box.left) + part[0], int(box.top) + part[1], part[2] - part[0], part[3] - part[1]);
  if (name == "nearest")
    return cropped(nearest(from, box, width, height), part[0], part[1], part[2] - part[0], part[3] - part[1]);
  const int old_width = int(box.right - box.left), old_height = int(box.bottom - box.top);
  if (name.size() > 9 && name.compare(name.size() - 9, 9, "antialias") == 0) {
    const float left = float(box.left), right = float(box.right), top = float(box.top), bottom = float(box.bottom);
    const bool lines = width != from.width || left != 0 || right != float(width);
    const bool columns = height != from.height || top != 0 || bottom != float(height);
    const auto across = [&](const Pixels& source) {
      if (!lines) return cropped(source, part[0], 0, part[2] - part[0], source.height);
      return antialias_pass(source, part_of(antialias_taps(name, from.width, left, right, width), part[0], part[2]),
                            true);
    };
    const auto down = [&](const Pixels& source) {
      if (!columns) return cropped(source, 0, part[1], source.width, part[3] - part[1]);
      return antialias_pass(source, part_of(antialias_taps(name, from.height, top, bottom, height), part[1], part[3]),
                            false);
    };
    // Each pass rounds, so their order counts: the rule of the Python runtime.
    const bool down_first = height < from.height && from.height - height > 2 * (from.width - width);
    return down_first ? across(down(from)) : down(across(from));
  }
  const auto taps = [&](int old, int size) {
    return name == "bilinear"  ? linear_taps(old, size)
           : name == "bicubic" ? cubic_taps(old, size)
           : name == "lanczos" ? lanczos_taps(old, size)
                               : area_taps(old, size);
  };
  const Taps<float> rows = part_of(taps(old_height, height), part[1], part[3]);
  const Taps<float> columns = part_of(taps(old_width, width), part[0], part[2]);
  const bool is_whole = old_width == from.width && old_height == from.height;
  const Pixels source = is_whole ? from : cropped(from, int(box.left), int(box.top), old_width, old_height);
  return name == "bilinear" ? bilinear(source, rows, columns) : separable(source, rows, columns);
}

inline Pixels padded(const Pixels& from, const Preprocess& form) {
  const int room[2] = {form.width, form.height}, old[2] = {from.width, from.height};
  const float ratio = std::max(float(old[0]) / float(room[0]), float(old[1]) / float(room[1]));
  int inner[2], start[2];
  for (int axis = 0; axis < 2; ++axis) {
    const float exact = float(old[axis]) / ratio;
    inner[axis] = std::max(1, std::min(room[axis], int(std::floor(exact))));
    start[axis] = std::max(0, int(std::floor((float(room[axis]) - exact) / 2.0f)));
  }
  const Box box{0, 0, double(from.width), double(from.height)};
  const Pixels pixels = resampled(from, inner[0], inner[1], form.resample, box, {0, 0, inner[0], inner[1]});
  const size_t channels = size_t(from.channels);
  Pixels made{form.height, form.width, from.channels, {}, {}};
  const auto place = [&](const auto& source, auto& target) {
    target.resize(size_t(form.height) * size_t(form.width) * channels);
    for (size_t i = 0; i < target.size(); ++i) {
      const size_t count = form.pad_color.size();
      const int color = count == 0 ? 0 : form.pad_color[count == 1 ? 0 : i % channels];
      target[i] = static_cast<typename std::decay_t<decltype(target)>::value_type>(color);
    }
    const size_t line = size_t(inner[0]) * channels;
    for (size_t y = 0; y < size_t(inner[1]); ++y)
      std::copy_n(
          source.begin() + int64_t(y * line), line,
          target.begin() + int64_t(((y + size_t(start[1])) * size_t(form.width) + size_t(start[0])) * channels));
  };
  if (pixels.floats.empty())
    place(pixels.bytes, made.bytes);
  else
    place(pixels.floats, made.floats);
  return made;
}

inline Pixels sized(const Pixels& from, const Preprocess& form) {
  const int width = form.width, height = form.height;
  const std::array<int, 4> all{0, 0, width, height};
  const Box whole{0, 0, double(from.width), double(from.height)};
  if (form.resize == "squash") return resampled(from, width, height, form.resample, whole, all);
  if (form.resize == "pad") return padded(from, form);
  if (form.resize == "fit") {  // Pillow's ImageOps.fit
    const double ratio = double(from.width) / from.height, wanted = double(width) / height;
    const double across = ratio > wanted ? wanted * from.height : from.width;
    const double down = ratio < wanted ? from.width / wanted : from.height;
    const double left = (from.width - across) * 0.5, top = (from.height - down) * 0.5;
    return resampled(from, width, height, form.resample, {left, top, left + across, top + down}, all);
  }
  if (form.crop_fraction == 1) {  // Keras' smart_resize, which divides in float32
    const int down = std::max(std::min(from.height, int(float(int64_t(from.width) * height) / float(width))), 1);
    const int across = std::max(std::min(from.width, int(float(int64_t(from.height) * width) / float(height))), 1);
    const int left = (from.width - across) / 2, top = (from.height - down) / 2;
    return resampled(from, width, height, form.resample,
                     {double(left), double(top), double(left + across), double(top + down)}, all);
  }
  const double cover[2] = {std::nearbyint(width / form.crop_fraction), std::nearbyint(height / form.crop_fraction)};
  const double scale = std::max(cover[0] / from.width, cover[1] / from.height);
  const double grown[2] = {std::max(cover[0], std::nearbyint(from.width * scale)),
                           std::max(cover[1], std::nearbyint(from.height * scale))};
  check_pixels(int64_t(grown[0]), int64_t(grown[1]), kMaxPixels);
  const int left = (int(grown[0]) - width) / 2, top = (int(grown[1]) - height) / 2;
  return resampled(from, int(grown[0]), int(grown[1]), form.resample, whole, {left, top, left + width, top + height});
}

inline std::vector<float> normalized(const Pixels& pixels, const Preprocess& form) {
  static const float caffe[] = {103.939f, 116.779f, 123.68f};
  static const float mean[] = {0.485f, 0.456f, 0.406f}, deviation[] = {0.229f, 0.224f, 0.225f};
  const size_t channels = size_t(pixels.channels), count = std::max(pixels.bytes.size(), pixels.floats.size());
  const bool flip = form.mode == "caffe" || form.bgr;
  std::vector<float> made(count);
  for (size_t i = 0; i < count; ++i) {
    const size_t c = i % channels, at = flip ? i - c + channels - 1 - c : i;
    float x = pixels.floats.empty() ? float(pixels.bytes[at]) : pixels.floats[at];
    if (form.mode == "tf") {
      x /= 127.5f;
      x -= 1.0f;
    } else if (form.mode == "torch") {
      x /= 255.0f;
      x -= mean[c];
      x /= deviation[c];
    } else if (form.mode == "caffe") {
      x -= caffe[c];
    } else if (form.mode == "custom") {
      x *= float(form.scale);
      x -= float(form.mean[c]);
      x /= float(form.std[c]);
    }
    made[i] = x;
  }
  return made;
}

}  // namespace detail

// Prepares a picture as the bundle says: (1, height, width, channels), uint8 (`is_uint8`: resized pixels, clipped and
// rounded) or float32 (after the scaling). `most` bounds the pixels of the picture. Errors: image-array,
// image-too-large.
inline Array prepare(const Picture& picture, const Preprocess& form, bool is_uint8, int64_t most = 64000000) {
  const detail::Pixels pixels = detail::sized(detail::converted(picture, form.channels, most), form);
  Array made;
  made.shape = {1, form.height, form.width, form.channels};
  made.is_uint8 = is_uint8;
  if (!is_uint8) {
    made.floats = detail::normalized(pixels, form);
  } else if (pixels.floats.empty()) {
    made.bytes = pixels.bytes;
  } else {
    for (float value : pixels.floats) made.bytes.push_back(uint8_t(std::clamp(std::nearbyint(value), 0.0f, 255.0f)));
  }
  return made;
}

// ---------------------------------------------------------------------------------------------------------------
// bundle

// The features of this processor that a variant can require: vnni, avx2, arm, dotprod.
inline std::set<std::string> processor_features() {
  std::set<std::string> found;
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2");
  unsigned int a = 0, b = 0, c = 0, d = 0;
  const bool avx_vnni = avx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
  if (avx2) found.insert("avx2");
  if (__builtin_cpu_supports("avx512vnni") || avx_vnni) found.insert("vnni");
#elif defined(__aarch64__) || defined(__arm__)
  found.insert("arm");
#if defined(__linux__) && defined(__aarch64__)
  if ((getauxval(AT_HWCAP) >> 20 & 1) != 0) found.insert("dotprod");  // HWCAP_ASIMDDP
#endif
#endif
  return found;
}

struct Options {
  std::string variant;                                    // its name; empty: the first one for this processor
  std::set<std::string> features = processor_features();  // what a variant may require
  int threads = 1;                                        // of one inference, in ONNX Runtime
  int64_t max_pixels = 64000000;                          // of a picture
};

// A bundle whose files all have the sizes and hashes of its manifest. It runs nothing: that is a Runtime.
struct Bundle {
  std::filesystem::path root;
  Manifest manifest;
  size_t variant = 0;  // the number of the variant that was picked
  std::vector<std::string> labels;
  std::string model;  // the bytes that were hashed

  const Variant& picked() const { return manifest.variants[variant]; }

  // `litert` asks for LiteRT files. Errors: bundle-*, manifest-*, file-*, labels-invalid, no-variant, unknown-variant.
  static Bundle open(const std::string& folder, const Options& options = {}, bool litert = false) {
    std::error_code failed;
    Bundle bundle;
    bundle.root = std::filesystem::canonical(std::filesystem::u8path(folder), failed);
    if (failed) throw Error("bundle-not-found", "there is no bundle " + folder, "check the path");
    if (!std::filesystem::exists(bundle.root / "manifest.json", failed))
      throw Error("not-a-bundle", folder + " is not a bundle: it is no folder with a manifest.json",
                  "give the folder that `xxdeploy export` wrote");
    bundle.manifest = Manifest::parse(detail::read_inside(bundle.root, "manifest.json", kMaxManifestBytes + 1));
    bundle.variant = bundle.pick(options, litert);
    std::string names;
    for (const File& file : bundle.manifest.files) {
      std::string data = detail::read_listed(bundle.root, file);
      if (file.path == bundle.manifest.labels) names = data;
      if (file.path == bundle.picked().model) bundle.model = std::move(data);
    }
    const Output& first = bundle.manifest.outputs[0];
    if (!bundle.manifest.labels.empty()) {
      bundle.labels = parse_labels(names, first.classes, first.task == "sequence");
    } else {
      for (int64_t index = 0; index < first.classes; ++index) bundle.labels.push_back(std::to_string(index));
    }
    return bundle;
  }

  // Reads a listed array, its hash checked.
  Array array(const std::string& path) const { return parse_npy(detail::read_listed(root, manifest.file(path)), path); }

 private:
  size_t pick(const Options& options, bool litert) const {
    for (size_t index = 0; index < manifest.variants.size(); ++index) {
      const Variant& one = manifest.variants[index];
      const std::vector<std::string>& needs = one.requires_features;
      const bool is_litert = std::find(needs.begin(), needs.end(), "litert") != needs.end();
      const bool runs = std::all_of(needs.begin(), needs.end(), [&](const std::string& need) {
        return need == "litert" || options.features.count(need) != 0;
      });
      if (options.variant.empty() ? runs && is_litert == litert : one.name == options.variant) {
        const std::string& file = one.model;
        if ((file.size() > 7 && file.compare(file.size() - 7, 7, ".tflite") == 0) != litert)
          throw Error("litert-file", file + " is not a file for this engine",
                      "LiteRT files are for XXDEPLOY_LITERT, and only they");
        return index;
      }
    }
    if (!options.variant.empty())
      throw Error("unknown-variant", manifest.name + " has no variant " + options.variant, "leave the variant out");
    throw Error("no-variant", "no variant of " + manifest.name + " is for this processor and engine",
                litert ? "export again with --with litert" : "export again with a portable variant");
  }
};

struct Prediction {
  int64_t index = 0;
  std::string label;
  float score = 0;
};

// The `top` best classes, best first; equal scores in the order of the classes.
inline std::vector<Prediction> top_classes(const std::vector<float>& scores, const std::vector<std::string>& labels,
                                           size_t top = 5) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<Prediction> best;
  for (size_t rank = 0; rank < std::min(top, order.size()); ++rank)
    best.push_back({int64_t(order[rank]), labels.at(order[rank]), scores[order[rank]]});
  return best;
}

namespace detail {

// The first of the largest of `count` values.
inline size_t best_of(const float* values, size_t count) {
  return size_t(std::max_element(values, values + count) - values);
}

}  // namespace detail

// The text of (steps, classes) probabilities, decoded greedily (CTC, Graves et al. 2006, section 3.2): the best class of
// each step; of equal classes in a row one stays; `blank` is left out.
inline std::string text_of_steps(const std::vector<float>& steps, const std::vector<std::string>& labels,
                                 int64_t blank) {
  std::string text;
  size_t before = labels.size();
  for (size_t start = 0; start + labels.size() <= steps.size(); start += labels.size()) {
    const size_t best = detail::best_of(steps.data() + start, labels.size());
    if (best != before && int64_t(best) != blank) text += labels[best];
    before = best;
  }
  return text;
}

// The pixels of an output (1, height, width, channels), (height, width, channels) uint8: values of `range` as black to
// white, halves rounded to the even number; without a range the class of each pixel, of one channel above 0.5.
inline Array pixels_of(const Array& output, const std::optional<std::pair<double, double>>& range) {
  Array made;
  made.is_uint8 = true;
  made.shape.assign(output.shape.begin() + 1, output.shape.end());
  const size_t channels = size_t(made.shape.at(2));
  if (range) {
    const double low = range->first, factor = 255 / (range->second - low);
    for (float value : output.floats) {
      const double scaled = (double(value) - low) * factor;
      made.bytes.push_back(uint8_t(std::nearbyint(std::min(std::max(scaled, 0.0), 255.0))));
    }
    return made;
  }
  made.shape[2] = 1;
  for (size_t at = 0; at < output.floats.size(); at += channels)
    made.bytes.push_back(channels == 1 ? output.floats[at] > 0.5F
                                       : uint8_t(detail::best_of(output.floats.data() + at, channels)));
  return made;
}

namespace detail {

// What an engine returns: float32, or int64 for the classes that `export --top-k` adds.
struct Result {
  std::vector<int64_t> shape;
  std::vector<float> floats;
  std::vector<int64_t> classes;
};

class Session {
 public:
  virtual ~Session() = default;
  virtual std::vector<Result> run(const Array& input) = 0;
  std::vector<Tensor> inputs, outputs;
};

inline int64_t count_of(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<int64_t>());
}

// The manifest must tell the truth about the model file; an engine may know a side of an output that the file leaves
// open.
inline void check_held(const Variant& variant, const Session& session) {
  const auto compare = [&](const char* kind, const std::vector<Tensor>& told, const std::vector<Tensor>& held) {
    bool same = told.size() == held.size();
    for (size_t index = 0; same && index < told.size(); ++index) {
      const Tensor &one = told[index], &other = held[index];
      same = one.name == other.name && one.dtype == other.dtype && one.shape.size() == other.shape.size();
      for (size_t axis = 0; same && axis < one.shape.size(); ++axis)
        same =
            one.shape[axis] == other.shape[axis] || (kind[0] == 'o' && (one.shape[axis] < 0 || other.shape[axis] < 0));
    }
    if (!same)
      throw Error("bundle-signature", variant.model + " has other " + kind + "s than the manifest says",
                  "export the bundle again");
  };
  compare("input", variant.inputs, session.inputs);
  compare("output", variant.outputs, session.outputs);
}

// Whether the classes of a top-k model, or scores of all classes, fit: each task's shape without the batch.
inline bool fits(const std::vector<int64_t>& shape, const Output& output) {
  if (output.task == "classification") return shape == std::vector<int64_t>{1, output.classes};
  if (output.task == "image") {
    if (shape.size() != 4 || shape[0] != 1) return false;
    return output.classes == 0 ? shape[3] == 1 || shape[3] == 3
                               : shape[3] == output.classes || (output.classes == 2 && shape[3] == 1);
  }
  if (output.task == "sequence") return shape.size() == 3 && shape[0] == 1 && shape[2] == output.classes;
  return shape.size() >= 2 && shape[0] == 1;
}

}  // namespace detail

// --------------------------------------------------------------------------------------------------------- ONNX
// Runtime
#if defined(XXDEPLOY_ONNXRUNTIME)

namespace detail {

// Whether any tensor of a serialized ONNX model lies outside of it: an engine would read whatever path it names.
inline bool has_external_data(const std::string& model) {
  enum Message { kModel, kTraining, kGraph, kFunction, kNode, kAttribute, kSparse, kTensor };
  static const std::map<std::pair<int, uint64_t>, int> inside = {
      // fields in which a tensor can hide (onnx.proto)
      {{kModel, 7}, kGraph},         {{kModel, 20}, kTraining},   {{kModel, 25}, kFunction},
      {{kTraining, 1}, kGraph},      {{kTraining, 2}, kGraph},    {{kGraph, 1}, kNode},
      {{kGraph, 5}, kTensor},        {{kGraph, 15}, kSparse},     {{kFunction, 7}, kNode},
      {{kFunction, 11}, kAttribute}, {{kNode, 5}, kAttribute},    {{kAttribute, 5}, kTensor},
      {{kAttribute, 6}, kGraph},     {{kAttribute, 10}, kTensor}, {{kAttribute, 11}, kGraph},
      {{kAttribute, 22}, kSparse},   {{kAttribute, 23}, kSparse}, {{kSparse, 1}, kTensor},
      {{kSparse, 2}, kTensor}};
  if (model.find("location") == std::string::npos) return false;
  const auto fail = [] {
    throw Error("engine-load", "the model is damaged: it is no protobuf", "copy or export it again");
  };
  struct Part {
    int message;
    size_t at, end;
  };
  std::vector<Part> stack = {{kModel, 0, model.size()}};
  while (!stack.empty()) {
    Part part = stack.back();
    stack.pop_back();
    const auto varint = [&] {
      uint64_t value = 0;
      for (int shift = 0; part.at < part.end && shift < 70; shift += 7) {
        const uint8_t byte = uint8_t(model[part.at++]);
        if (shift < 64) value |= uint64_t(byte & 0x7F) << shift;
        if (byte < 0x80) return value;
      }
      fail();
      return value;
    };
    while (part.at < part.end) {
      const uint64_t key = varint(), field = key >> 3, wire = key & 7;
      if (wire == 0) {
        if (varint() != 0 && part.message == kTensor && field == 14) return true;  // data_location
        continue;
      }
      uint64_t size = wire == 1 ? 8 : 4;
      if (wire == 2) size = varint();
      if ((wire != 1 && wire != 2 && wire != 5) || size > part.end - part.at) fail();
      if (part.message == kTensor && field == 13) return true;  // external_data
      const auto found = inside.find({part.message, field});
      if (wire == 2 && found != inside.end()) stack.push_back({found->second, part.at, part.at + size_t(size)});
      part.at += size_t(size);
    }
  }
  return false;
}

// The functions of `struct OrtApi` that are used here, at their places in the table. The table only grows at its end
// (onnxruntime_c_api.h says so), so no header of ONNX Runtime is needed. If the header is there, it is compared below.
struct OrtTable {
  void* a0[2];
  const char* (*GetErrorMessage)(const void*);
  void* (*CreateEnv)(int, const char*, void**);
  void* a4[2];
  void* (*DisableTelemetryEvents)(const void*);
  void* a7[1];
  void* (*CreateSessionFromArray)(const void*, const void*, size_t, const void*, void**);
  void* (*Run)(void*, const void*, const char* const*, const void* const*, size_t, const char* const*, size_t, void**);
  void* (*CreateSessionOptions)(void**);
  void* a11[13];
  void* (*SetIntraOpNumThreads)(void*, int);
  void* a25[5];
  void* (*SessionGetInputCount)(const void*, size_t*);
  void* (*SessionGetOutputCount)(const void*, size_t*);
  void* a32[1];
  void* (*SessionGetInputTypeInfo)(const void*, size_t, void**);
  void* (*SessionGetOutputTypeInfo)(const void*, size_t, void**);
  void* a35[1];
  void* (*SessionGetInputName)(const void*, size_t, void*, char**);
  void* (*SessionGetOutputName)(const void*, size_t, void*, char**);
  void* a38[11];
  void* (*CreateTensorWithDataAsOrtValue)(const void*, void*, size_t, const int64_t*, size_t, int, void**);
  void* a50[1];
  void* (*GetTensorMutableData)(void*, void**);
  void* a52[3];
  void* (*CastTypeInfoToTensorInfo)(const void*, const void**);
  void* a56[4];
  void* (*GetTensorElementType)(const void*, int*);
  void* (*GetDimensionsCount)(const void*, size_t*);
  void* (*GetDimensions)(const void*, int64_t*, size_t);
  void* a63[2];
  void* (*GetTensorTypeAndShape)(const void*, void**);
  void* a66[3];
  void* (*CreateCpuMemoryInfo)(int, int, void**);
  void* a70[6];
  void* (*AllocatorFree)(void*, void*);
  void* a77[1];
  void* (*GetAllocatorWithDefaultOptions)(void**);
  void* a79[13];
  void (*ReleaseEnv)(void*);
  void (*ReleaseStatus)(void*);
  void (*ReleaseMemoryInfo)(void*);
  void (*ReleaseSession)(void*);
  void (*ReleaseValue)(void*);
  void* a97[1];
  void (*ReleaseTypeInfo)(void*);
  void (*ReleaseTensorTypeAndShapeInfo)(void*);
  void (*ReleaseSessionOptions)(void*);
};

#if defined(ORT_API_VERSION)  // onnxruntime_c_api.h was included before this header
#define XXDEPLOY_SAME(name) \
  static_assert(offsetof(OrtTable, name) == offsetof(::OrtApi, name), "ONNX Runtime's table has another order")
XXDEPLOY_SAME(GetErrorMessage);
XXDEPLOY_SAME(CreateEnv);
XXDEPLOY_SAME(DisableTelemetryEvents);
XXDEPLOY_SAME(CreateSessionFromArray);
XXDEPLOY_SAME(Run);
XXDEPLOY_SAME(CreateSessionOptions);
XXDEPLOY_SAME(SetIntraOpNumThreads);
XXDEPLOY_SAME(SessionGetInputCount);
XXDEPLOY_SAME(SessionGetOutputCount);
XXDEPLOY_SAME(SessionGetInputTypeInfo);
XXDEPLOY_SAME(SessionGetOutputTypeInfo);
XXDEPLOY_SAME(SessionGetInputName);
XXDEPLOY_SAME(SessionGetOutputName);
XXDEPLOY_SAME(CreateTensorWithDataAsOrtValue);
XXDEPLOY_SAME(GetTensorMutableData);
XXDEPLOY_SAME(CastTypeInfoToTensorInfo);
XXDEPLOY_SAME(GetTensorElementType);
XXDEPLOY_SAME(GetDimensionsCount);
XXDEPLOY_SAME(GetDimensions);
XXDEPLOY_SAME(GetTensorTypeAndShape);
XXDEPLOY_SAME(CreateCpuMemoryInfo);
XXDEPLOY_SAME(AllocatorFree);
XXDEPLOY_SAME(GetAllocatorWithDefaultOptions);
XXDEPLOY_SAME(ReleaseEnv);
XXDEPLOY_SAME(ReleaseStatus);
XXDEPLOY_SAME(ReleaseMemoryInfo);
XXDEPLOY_SAME(ReleaseSession);
XXDEPLOY_SAME(ReleaseValue);
XXDEPLOY_SAME(ReleaseTypeInfo);
XXDEPLOY_SAME(ReleaseTensorTypeAndShapeInfo);
XXDEPLOY_SAME(ReleaseSessionOptions);
#undef XXDEPLOY_SAME
inline const void* ort_api(uint32_t version) { return ::OrtGetApiBase()->GetApi(version); }
#else
struct OrtBase {
  const void* (*GetApi)(uint32_t);
  const char* (*GetVersionString)();
};
extern "C" const OrtBase* OrtGetApiBase(void) noexcept;
inline const void* ort_api(uint32_t version) { return OrtGetApiBase()->GetApi(version); }
#endif

class OrtSession final : public Session {
 public:
  OrtSession(const std::string& model, const Variant& variant, int threads) {
    if (has_external_data(model))
      throw Error("engine-external-data", variant.model + " keeps weights in another file, which nobody has checked",
                  "save it as one file");
    api_ = static_cast<const OrtTable*>(ort_api(16));
    if (api_ == nullptr) throw Error("engine-load", "this ONNX Runtime is older than 1.16", "install a newer one");
    Owned options;
    check(api_->CreateEnv(4, "xxdeploy", env_.set(api_->ReleaseEnv)), "engine-load");
    check(api_->DisableTelemetryEvents(env_.get()), "engine-load");  // official builds for Windows send events
    check(api_->CreateSessionOptions(options.set(api_->ReleaseSessionOptions)), "engine-load");
    check(api_->SetIntraOpNumThreads(options.get(), threads), "engine-load");
    check(api_->CreateSessionFromArray(env_.get(), model.data(), model.size(), options.get(),
                                       session_.set(api_->ReleaseSession)),
          "engine-load");
    check(api_->CreateCpuMemoryInfo(1, 0, memory_.set(api_->ReleaseMemoryInfo)), "engine-load");
    inputs = tensors(api_->SessionGetInputCount, api_->SessionGetInputName, api_->SessionGetInputTypeInfo, true);
    outputs = tensors(api_->SessionGetOutputCount, api_->SessionGetOutputName, api_->SessionGetOutputTypeInfo, false);
  }

  std::vector<Result> run(const Array& input) override {
    Array copy = input;  // the API takes a pointer to data that it may write
    void* data = copy.is_uint8 ? static_cast<void*>(copy.bytes.data()) : copy.floats.data();
    Owned value;
    check(api_->CreateTensorWithDataAsOrtValue(
              memory_.get(), data, copy.is_uint8 ? copy.bytes.size() : copy.floats.size() * 4, copy.shape.data(),
              copy.shape.size(), copy.is_uint8 ? kUint8 : kFloat, value.set(api_->ReleaseValue)),
          "engine-run");
    const char* given[] = {inputs[0].name.c_str()};
    const void* values[] = {value.get()};
    std::vector<const char*> names;
    for (const Tensor& output : outputs) names.push_back(output.name.c_str());
    std::vector<void*> raw(names.size(), nullptr);
    void* status = api_->Run(session_.get(), nullptr, given, values, 1, names.data(), names.size(), raw.data());
    std::vector<Owned> owned(raw.size());
    for (size_t index = 0; index < raw.size(); ++index) *owned[index].set(api_->ReleaseValue) = raw[index];
    check(status, "engine-run");
    std::vector<Result> results;
    for (size_t index = 0; index < raw.size(); ++index) results.push_back(result(raw[index]));
    return results;
  }

 private:
  static constexpr int kFloat = 1, kUint8 = 2, kInt8 = 3, kInt64 = 7;

  // A handle of the API that frees itself.
  class Owned {
   public:
    Owned() = default;
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;
    ~Owned() {
      if (held_ != nullptr) release_(held_);
    }
    void** set(void (*release)(void*)) {
      release_ = release;
      return &held_;
    }
    void* get() const { return held_; }

   private:
    void* held_ = nullptr;
    void (*release_)(void*) = nullptr;
  };

  void check(void* status, const char* code) const {
    if (status == nullptr) return;
    const std::string message = api_->GetErrorMessage(status);
    api_->ReleaseStatus(status);
    throw Error(code, "ONNX Runtime: " + cut(message, 300), "the file is damaged, or needs a newer ONNX Runtime");
  }

  std::vector<int64_t> shape(const void* info) const {
    size_t axes = 0;
    check(api_->GetDimensionsCount(info, &axes), "engine-load");
    std::vector<int64_t> sides(axes);
    check(api_->GetDimensions(info, sides.data(), axes), "engine-load");
    return sides;
  }

  template <typename Count, typename Name, typename Info>
  std::vector<Tensor> tensors(Count count, Name name, Info info, bool is_input) const {
    size_t many = 0;
    void* allocator = nullptr;
    check(count(session_.get(), &many), "engine-load");
    check(api_->GetAllocatorWithDefaultOptions(&allocator), "engine-load");
    std::vector<Tensor> found(many);
    for (size_t index = 0; index < many; ++index) {
      Owned type;
      char* letters = nullptr;
      const void* tensor = nullptr;
      int element = 0;
      check(name(session_.get(), index, allocator, &letters), "engine-load");
      found[index].name = letters;
      check(api_->AllocatorFree(allocator, letters), "engine-load");
      check(info(session_.get(), index, type.set(api_->ReleaseTypeInfo)), "engine-load");
      check(api_->CastTypeInfoToTensorInfo(type.get(), &tensor), "engine-load");
      if (tensor == nullptr)
        throw Error("engine-signature", found[index].name + " is no tensor", "export it with xxdeploy");
      check(api_->GetTensorElementType(tensor, &element), "engine-load");
      found[index].dtype = element == kFloat   ? "float32"
                           : element == kUint8 ? "uint8"
                           : element == kInt8  ? "int8"
                           : element == kInt64 ? "int64"
                                               : "other";
      found[index].shape = shape(tensor);
      for (int64_t& side : found[index].shape) side = side < 0 ? -1 : side;
      if (is_input) found[index].layout = "NHWC";
    }
    return found;
  }

  Result result(void* value) const {
    Owned info;
    int element = 0;
    void* data = nullptr;
    Result made;
    check(api_->GetTensorTypeAndShape(value, info.set(api_->ReleaseTensorTypeAndShapeInfo)), "engine-run");
    check(api_->GetTensorElementType(info.get(), &element), "engine-run");
    check(api_->GetTensorMutableData(value, &data), "engine-run");
    made.shape = shape(info.get());
    const int64_t count = count_of(made.shape);
    if (element == kFloat)
      made.floats.assign(static_cast<float*>(data), static_cast<float*>(data) + count);
    else if (element == kInt64)
      made.classes.assign(static_cast<int64_t*>(data), static_cast<int64_t*>(data) + count);
    else
      throw Error("engine-output", "an output is neither float32 nor int64", "export it with xxdeploy");
    return made;
  }

  const OrtTable* api_ = nullptr;
  Owned env_, session_, memory_;
};

using EngineSession = OrtSession;
constexpr bool kLitert = false;

}  // namespace detail
#endif  // XXDEPLOY_ONNXRUNTIME

// ----------------------------------------------------------------------------------------------------------------
// LiteRT
#if defined(XXDEPLOY_LITERT)
#if defined(XXDEPLOY_ONNXRUNTIME)
#error "define XXDEPLOY_ONNXRUNTIME or XXDEPLOY_LITERT, not both"
#endif

namespace detail {

// The declarations of LiteRT's C API (litert/c of LiteRT 2.3) that are used here: handles are pointers, a status of 0
// is success. Versions before 2.3 have other arguments.
struct LiteRtShape {
  unsigned int rank : 7;
  bool has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
};
struct LiteRtType {
  int element;
  LiteRtShape layout;
};
static_assert(sizeof(LiteRtType) == 72, "LiteRtRankedTensorType has another size");

extern "C" {
int LiteRtCreateEnvironment(int, const void*, void**);
void LiteRtDestroyEnvironment(void*);
int LiteRtCreateModelFromBuffer(void*, const void*, size_t, void**);
void LiteRtDestroyModel(void*);
int LiteRtCreateOptions(void**);
void LiteRtDestroyOptions(void*);
int LiteRtSetOptionsHardwareAccelerators(void*, int);
int LiteRtCreateCompiledModel(void*, void*, void*, void**);
void LiteRtDestroyCompiledModel(void*);
int LiteRtRunCompiledModel(void*, size_t, size_t, void**, size_t, void**);
int LiteRtGetMainModelSubgraphIndex(void*, size_t*);
int LiteRtGetModelSubgraph(void*, size_t, void**);
int LiteRtGetNumSubgraphInputs(void*, size_t*);
int LiteRtGetNumSubgraphOutputs(void*, size_t*);
int LiteRtGetSubgraphInput(void*, size_t, void**);
int LiteRtGetSubgraphOutput(void*, size_t, void**);
int LiteRtGetModelSignature(void*, size_t, void**);
int LiteRtGetSignatureOutputTensorByIndex(void*, size_t, void**);
int LiteRtGetTensorName(void*, const char**);
int LiteRtGetRankedTensorType(void*, LiteRtType*);
int LiteRtCreateManagedTensorBuffer(void*, int, const LiteRtType*, size_t, void**);
void LiteRtDestroyTensorBuffer(void*);
int LiteRtLockTensorBuffer(void*, void**, int);
int LiteRtUnlockTensorBuffer(void*);
}

class LiteRtSession final : public Session {
 public:
  LiteRtSession(const std::string& model, const Variant& variant, int threads) : bytes_(model) {
    if (threads != 1) throw Error("threads-invalid", "LiteRT runs with one thread here", "set threads to 1");
    check(LiteRtCreateEnvironment(0, nullptr, &held_.environment), "engine-load");
    check(LiteRtCreateModelFromBuffer(held_.environment, bytes_.data(), bytes_.size(), &held_.model), "engine-load");
    check(LiteRtCreateOptions(&held_.options), "engine-load");
    check(LiteRtSetOptionsHardwareAccelerators(held_.options, 1 /* CPU */), "engine-load");
    check(LiteRtCreateCompiledModel(held_.environment, held_.model, held_.options, &held_.compiled), "engine-load");
    size_t main = 0, ins = 0, outs = 0;
    void *graph = nullptr, *signature = nullptr, *tensor = nullptr;
    check(LiteRtGetMainModelSubgraphIndex(held_.model, &main), "engine-load");
    check(LiteRtGetModelSubgraph(held_.model, main, &graph), "engine-load");
    check(LiteRtGetModelSignature(held_.model, 0, &signature), "engine-load");
    check(LiteRtGetNumSubgraphInputs(graph, &ins), "engine-load");
    check(LiteRtGetNumSubgraphOutputs(graph, &outs), "engine-load");
    for (size_t index = 0; index < ins; ++index) {
      check(LiteRtGetSubgraphInput(graph, index, &tensor), "engine-load");
      inputs.push_back(read(tensor, input_types_));
      inputs.back().layout = "NHWC";
    }
    for (size_t index = 0; index < outs; ++index) {
      check(LiteRtGetSubgraphOutput(graph, index, &tensor), "engine-load");
      outputs.push_back(read(tensor, output_types_));
    }
    for (size_t index = 0; index < outs; ++index) {  // a run takes the outputs in the order of the signature
      check(LiteRtGetSignatureOutputTensorByIndex(signature, index, &tensor), "engine-load");
      std::vector<LiteRtType> unused;
      const std::string name = read(tensor, unused).name;
      for (size_t place = 0; place < outs; ++place)
        if (outputs[place].name == name) order_.push_back(place);
    }
    if (ins != 1 || order_.size() != outs)
      throw Error("engine-signature", variant.model + " has other inputs or outputs than xxdeploy writes",
                  "export it with xxdeploy");
    held_.input = buffer(input_types_[0]);
    for (size_t place : order_) held_.outputs.push_back(buffer(output_types_[place]));
  }

  std::vector<Result> run(const Array& input) override {
    const size_t size = input.is_uint8 ? input.bytes.size() : input.floats.size() * 4;
    if (size != size_of(input_types_[0]) || input.is_uint8 != (input_types_[0].element == kUint8))
      throw Error("engine-run", "the input has another size or dtype than the model reads", "use input_of()");
    void* data = nullptr;
    check(LiteRtLockTensorBuffer(held_.input, &data, 1 /* write */), "engine-run");
    std::memcpy(data, input.is_uint8 ? static_cast<const void*>(input.bytes.data()) : input.floats.data(), size);
    check(LiteRtUnlockTensorBuffer(held_.input), "engine-run");
    check(LiteRtRunCompiledModel(held_.compiled, 0, 1, &held_.input, held_.outputs.size(), held_.outputs.data()),
          "engine-run");
    std::vector<Result> results(outputs.size());
    for (size_t index = 0; index < held_.outputs.size(); ++index) {
      const size_t place = order_[index];
      if (output_types_[place].element != kFloat)
        throw Error("engine-output", "the output " + outputs[place].name + " is not float32",
                    "export it with xxdeploy");
      check(LiteRtLockTensorBuffer(held_.outputs[index], &data, 0 /* read */), "engine-run");
      const float* values = static_cast<const float*>(data);
      results[place].shape = outputs[place].shape;
      results[place].floats.assign(values, values + count_of(outputs[place].shape));
      check(LiteRtUnlockTensorBuffer(held_.outputs[index]), "engine-run");
    }
    return results;
  }

 private:
  static constexpr int kFloat = 1, kUint8 = 3, kInt64 = 4, kInt8 = 9;

  static void check(int status, const char* code) {
    if (status != 0)
      throw Error(code, "LiteRT: status " + std::to_string(status), "the file is damaged, or needs a newer LiteRT");
  }

  static size_t size_of(const LiteRtType& type) {
    size_t size = type.element == kFloat ? 4 : type.element == kInt64 ? 8 : 1;
    for (unsigned axis = 0; axis < type.layout.rank; ++axis) size *= size_t(std::max(type.layout.dimensions[axis], 0));
    return size;
  }

  static Tensor read(void* handle, std::vector<LiteRtType>& types) {
    const char* name = nullptr;
    LiteRtType type{};
    check(LiteRtGetTensorName(handle, &name), "engine-load");
    check(LiteRtGetRankedTensorType(handle, &type), "engine-load");
    Tensor tensor;
    tensor.name = name;
    tensor.dtype = type.element == kFloat   ? "float32"
                   : type.element == kUint8 ? "uint8"
                   : type.element == kInt8  ? "int8"
                   : type.element == kInt64 ? "int64"
                                            : "other";
    for (unsigned axis = 0; axis < type.layout.rank; ++axis)
      tensor.shape.push_back(std::max(type.layout.dimensions[axis], -1));
    types.push_back(type);
    return tensor;
  }

  void* buffer(const LiteRtType& type) const {
    void* made = nullptr;
    check(LiteRtCreateManagedTensorBuffer(held_.environment, 1 /* host memory */, &type, size_of(type), &made),
          "engine-load");
    return made;
  }

  // The handles, which are freed also where the constructor throws.
  struct Handles {
    Handles() = default;
    Handles(const Handles&) = delete;
    Handles& operator=(const Handles&) = delete;
    ~Handles() {
      for (void* one : outputs) LiteRtDestroyTensorBuffer(one);
      if (input != nullptr) LiteRtDestroyTensorBuffer(input);
      if (compiled != nullptr) LiteRtDestroyCompiledModel(compiled);
      if (options != nullptr) LiteRtDestroyOptions(options);
      if (model != nullptr) LiteRtDestroyModel(model);
      if (environment != nullptr) LiteRtDestroyEnvironment(environment);
    }
    void *environment = nullptr, *model = nullptr, *options = nullptr, *compiled = nullptr, *input = nullptr;
    std::vector<void*> outputs;
  };

  std::string bytes_;
  Handles held_;
  std::vector<LiteRtType> input_types_, output_types_;
  std::vector<size_t> order_;
};

using EngineSession = LiteRtSession;
constexpr bool kLitert = true;

}  // namespace detail
#endif  // XXDEPLOY_LITERT

// --------------------------------------------------------------------------------------------------------------
// runtime
#if defined(XXDEPLOY_ONNXRUNTIME) || defined(XXDEPLOY_LITERT)

// A bundle of one picture in an engine.
class Runtime {
 public:
  // Errors: those of Bundle::open, and not-one-picture, engine-*, bundle-signature.
  explicit Runtime(const std::string& folder, const Options& options = {})
      : bundle_(Bundle::open(folder, options, detail::kLitert)), max_pixels_(options.max_pixels) {
    if (bundle_.manifest.inputs.size() != 1 || !bundle_.manifest.inputs[0].picture)
      throw Error("not-one-picture", bundle_.manifest.name + " reads several inputs, or one that is no picture",
                  "use the Python runtime for this bundle");
    session_ = std::make_unique<detail::EngineSession>(bundle_.model, bundle_.picked(), options.threads);
    detail::check_held(bundle_.picked(), *session_);
  }

  const Bundle& bundle() const { return bundle_; }

  // The array that the engine gets for a picture, (1, height, width, channels).
  Array input_of(const Picture& picture) const {
    return prepare(picture, *bundle_.manifest.inputs[0].picture, bundle_.picked().inputs[0].dtype == "uint8",
                   max_pixels_);
  }

  // Every output in the order of the manifest, (1, ...) float32. Errors: image-*, engine-run, engine-output.
  std::vector<Array> run(const Picture& picture) { return answers(input_of(picture)); }

  // The `top` best classes. Errors: wrong-task, and those of `run`.
  std::vector<Prediction> predict(const Picture& picture, size_t top = 5) {
    check_task("classification");
    return top_classes(run(picture)[0].floats, bundle_.labels, top);
  }

  // The text of a bundle for sequences. Errors as `predict`.
  std::string read(const Picture& picture) {
    check_task("sequence");
    return text_of_steps(run(picture)[0].floats, bundle_.labels, bundle_.manifest.blank);
  }

  // The picture of a bundle for images, or the class of each pixel of a mask: (height, width, channels) uint8. Errors
  // as `predict`.
  Array image(const Picture& picture) {
    check_task("image");
    return pixels_of(run(picture)[0], bundle_.manifest.output_range);
  }

  // Runs the golden pairs; returns the largest error of the first output. Errors: golden-invalid, golden-mismatch.
  double selftest() {
    const Manifest& manifest = bundle_.manifest;
    const Preprocess& form = *manifest.inputs[0].picture;
    const Array images = bundle_.array(manifest.inputs[0].golden);
    bool right = images.is_uint8 && images.shape.size() == 4 && images.shape[0] > 0 &&
                 std::vector<int64_t>(images.shape.begin() + 1, images.shape.end()) == manifest.inputs[0].shape;
    std::vector<Array> expected;
    for (const Output& output : manifest.outputs) {
      expected.push_back(bundle_.array(output.golden[bundle_.variant]));
      std::vector<int64_t> one = expected.back().shape;
      right = right && !expected.back().is_uint8 && !one.empty() && one[0] == images.shape[0];
      if (!one.empty()) one[0] = 1;
      right = right && detail::fits(one, output);
      for (float value : expected.back().floats) right = right && std::isfinite(value);
    }
    if (!right) throw Error("golden-invalid", "the golden pairs do not fit the manifest", "export the bundle again");
    double first = 0;
    const size_t size = images.bytes.size() / size_t(images.shape[0]);
    for (int64_t index = 0; index < images.shape[0]; ++index) {
      detail::Pixels pixels{form.height, form.width, form.channels, {}, {}};
      pixels.bytes.assign(images.bytes.begin() + index * int64_t(size),
                          images.bytes.begin() + (index + 1) * int64_t(size));
      Array input;
      input.shape = {1, form.height, form.width, form.channels};
      input.is_uint8 = bundle_.picked().inputs[0].dtype == "uint8";
      if (input.is_uint8)
        input.bytes = pixels.bytes;
      else
        input.floats = detail::normalized(pixels, form);
      size_t listed = 0;
      const std::vector<Array> found = answers(input, &listed);
      for (size_t number = 0; number < found.size(); ++number) {
        const double error = worst(found[number], expected[number], index, number == 0 ? listed : 0);
        if (!(error <= manifest.outputs[number].tolerance))
          throw Error("golden-mismatch",
                      "this device does not compute the exported model's outputs: the largest error of " +
                          manifest.outputs[number].name + " is " + std::to_string(error),
                      "update the engine, or export with a variant for this processor");
        if (number == 0) first = std::max(first, error);
      }
    }
    return first;
  }

 private:
  void check_task(const char* task) const {
    const std::string& own = bundle_.manifest.outputs[0].task;
    if (own == task) return;
    const std::string method = own == "classification" ? "predict()" : own == "sequence" ? "read()"
                               : own == "image"        ? "image()"
                                                       : "run()";
    throw Error("wrong-task", bundle_.manifest.name + " is a bundle for " + own + ", not for " + task,
                "call " + method);
  }

  // The outputs for an input. `listed` gets the number of classes that a top-k model returned.
  std::vector<Array> answers(const Array& input, size_t* listed = nullptr) {
    const Manifest& manifest = bundle_.manifest;
    std::vector<detail::Result> results = session_->run(input);
    const bool top_k = results.size() == manifest.outputs.size() + 1 && !results.back().classes.empty();
    if (top_k) {
      if (listed != nullptr) *listed = results[0].floats.size();
      results[0] = spread(results[0], results.back(), manifest.outputs[0].classes);
      results.pop_back();
    }
    std::vector<Array> made;
    for (size_t index = 0; index < manifest.outputs.size(); ++index) {
      bool right = index < results.size() && detail::fits(results[index].shape, manifest.outputs[index]);
      for (size_t at = 0; right && at < results[index].floats.size(); ++at)
        right = std::isfinite(results[index].floats[at]);
      right = right && int64_t(results[index].floats.size()) == detail::count_of(results[index].shape);
      if (!right)
        throw Error("engine-output",
                    "the output " + manifest.outputs[index].name + " has another shape, or values that are no numbers",
                    "run the self-test");
      made.push_back({results[index].shape, false, {}, std::move(results[index].floats)});
    }
    return made;
  }

  // All classes of a top-k model: those that it does not list get an equal share of the rest of 1.
  static detail::Result spread(const detail::Result& best, const detail::Result& places, int64_t classes) {
    if (best.floats.empty() || best.floats.size() != places.classes.size())
      throw Error("engine-output", "the best classes have no scores", "run the self-test");
    const double sum = std::accumulate(best.floats.begin(), best.floats.end(), 0.0);
    const double rest = (1 - sum) / double(std::max<int64_t>(1, classes - int64_t(best.floats.size())));
    detail::Result made{{1, classes}, {}, {}};
    made.floats.assign(size_t(classes), float(std::min(std::max(rest, 0.0), double(best.floats.back()))));
    for (size_t k = 0; k < best.floats.size(); ++k) {
      if (places.classes[k] < 0 || places.classes[k] >= classes)
        throw Error("engine-output", "the model lists a class that there is not", "run the self-test");
      made.floats[size_t(places.classes[k])] = best.floats[k];
    }
    return made;
  }

  // The largest error of one image; infinity for NaN. A class that a top-k model does not list may have any value up to
  // the smallest listed one.
  static double worst(const Array& found, const Array& expected, int64_t image, size_t listed) {
    const size_t count = found.floats.size();
    if (expected.floats.size() / size_t(expected.shape[0]) != count) return std::numeric_limits<double>::infinity();
    const float* right = expected.floats.data() + size_t(image) * count;
    std::vector<float> have = found.floats;
    if (listed != 0 && listed < count) {
      std::vector<size_t> order(count);
      std::iota(order.begin(), order.end(), size_t(0));
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return have[a] > have[b]; });
      const float least = have[order[listed - 1]];
      for (size_t rank = listed; rank < count; ++rank) have[order[rank]] = std::min(right[order[rank]], least);
    }
    double error = 0;
    for (size_t at = 0; at < count; ++at) {
      const double one = std::fabs(double(have[at]) - double(right[at]));
      error = one <= error ? error : one;  // so that NaN stays
      if (std::isnan(error)) return std::numeric_limits<double>::infinity();
    }
    return error;
  }

  Bundle bundle_;
  int64_t max_pixels_;
  std::unique_ptr<detail::Session> session_;
};

#endif

}  // namespace xxdeploy

#if !defined(__clang__) && defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif  // XXDEPLOY_HPP
