// Judges xxdeploy.hpp by the conformance suite (docs/reference/conformance.md), and prints the result as TAP.
//
//   g++ -std=c++17 -O2 -DXXDEPLOY_ONNXRUNTIME conformance.cc -L ORT/lib -lonnxruntime -o conformance
//   ./conformance SUITE          # a folder that scripts/make_conformance.py wrote
//
// With -DXXDEPLOY_LITERT and -lLiteRt it judges the LiteRT part. The exit status is 1 if an entry fails.
#include "xxdeploy.hpp"

#include <cstdio>
#include <iostream>

namespace {

using xxdeploy::Array;
using xxdeploy::Json;

#if defined(XXDEPLOY_LITERT)
const std::set<std::string> kAble = {"litert", "links"};
#else
const std::set<std::string> kAble = {"onnx", "links"};
#endif

struct Suite {
  std::string root;
  Json expected;

  Array array(const std::string& path) const {
    std::ifstream file(root + "/" + path, std::ios::binary);
    const std::string data((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    return xxdeploy::parse_npy(data, path);
  }
};

const std::string& text(const Json& entry, const char* key) { return entry.find(key)->text; }

// Says how two arrays differ; empty if they do not.
std::string differs(const Array& have, const Array& expected, double tolerance) {
  if (have.shape != expected.shape || have.is_uint8 != expected.is_uint8) return "another shape or dtype";
  double worst = 0;
  for (size_t at = 0; at < have.size(); ++at) {
    const double error = have.is_uint8 ? std::fabs(double(have.bytes[at]) - double(expected.bytes[at]))
                                       : std::fabs(double(have.floats[at]) - double(expected.floats[at]));
    worst = error <= worst ? worst : error;
  }
  if (worst <= tolerance) return "";
  std::ostringstream told;
  told << "the largest difference is " << worst << ", allowed is " << tolerance;
  return told.str();
}

std::string judge_bundle(const Suite& suite, const Json& entry) {
  xxdeploy::Options options;
  options.variant = text(entry, "variant");
  xxdeploy::Runtime(suite.root + "/" + text(entry, "path"), options).selftest();
  return "";
}

std::string judge_answer(const Suite& suite, const Json& entry) {
  const Json& given = entry.find("inputs")->items.at(0);
  Array source;
  for (const Json& picture : suite.expected.find("pictures")->items)
    if (text(picture, "name") == text(given, "picture")) source = suite.array(text(picture, "npy"));
  xxdeploy::Options options;
  options.variant = text(entry, "variant");
  xxdeploy::Runtime runtime(suite.root + "/" + text(entry, "bundle"), options);
  const xxdeploy::Picture picture{source.bytes.data(), int(source.shape[0]), int(source.shape[1]),
                                  int(source.shape[2])};
  std::string problem =
      differs(runtime.input_of(picture), suite.array(text(given, "npy")), given.find("tolerance")->number);
  if (!problem.empty()) return "input: " + problem;
  const std::vector<Array> outputs = runtime.run(picture);
  const std::vector<Json>& wanted = entry.find("outputs")->items;
  if (outputs.size() != wanted.size()) return "another number of outputs";
  for (size_t index = 0; index < wanted.size(); ++index) {
    if (runtime.bundle().manifest.outputs[index].name != text(wanted[index], "name")) return "another output";
    problem = differs(outputs[index], suite.array(text(wanted[index], "npy")), wanted[index].find("tolerance")->number);
    if (!problem.empty()) return text(wanted[index], "name") + ": " + problem;
  }
  const Json &top = *entry.find("top"), &wanted_text = *entry.find("text"), &image = *entry.find("image");
  if (wanted_text.kind != Json::null && runtime.read(picture) != wanted_text.text) return "another text";
  if (image.kind != Json::null) {
    problem = differs(runtime.image(picture), suite.array(image.text), 0);
    if (!problem.empty()) return "image: " + problem;
  }
  if (top.kind == Json::null) return "";
  const std::vector<xxdeploy::Prediction> best = runtime.predict(picture);
  bool same = best.size() == top.items.size();
  for (size_t rank = 0; same && rank < best.size(); ++rank)
    same =
        best[rank].index == top.items[rank].find("class")->whole && best[rank].label == text(top.items[rank], "label");
  return same ? "" : "the best classes are others";
}

// Says how loading a bundle, and with `selftest` its golden pairs, end otherwise than by the error `code`.
std::string refused(const std::string& bundle, const std::string& code, bool selftest) {
  try {
    xxdeploy::Runtime runtime(bundle);
    if (selftest) runtime.selftest();
  } catch (const xxdeploy::Error& error) {
    return error.code == code ? "" : error.code + ", expected " + code;
  }
  return "accepted, expected " + code;
}

std::string judge_refusal(const Suite& suite, const Json& entry) {
  return refused(suite.root + "/" + text(entry, "bundle"), text(entry, "code"), text(entry, "when") == "selftest");
}

struct Kind {
  const char* name;
  std::string (*judge)(const Suite&, const Json&);
};

int run(const std::string& root) {
  Suite suite{root, {}};
  std::ifstream file(root + "/expected.json", std::ios::binary);
  suite.expected = xxdeploy::detail::JsonReader::read(
      std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>()));
  const Kind kinds[] = {{"bundles", judge_bundle}, {"answers", judge_answer}, {"refusals", judge_refusal}};
  size_t total = 0, number = 0, failed = 0;
  for (const Kind& kind : kinds) total += suite.expected.find(kind.name)->items.size();
  std::cout << "TAP version 13\n1.." << total << "\n";
  for (const Kind& kind : kinds)
    for (const Json& entry : suite.expected.find(kind.name)->items) {
      const bool is_bundle = entry.find("name") == nullptr;
      const std::string name = std::string(kind.name) + ": " + text(entry, is_bundle ? "path" : "name");
      std::string problem, skipped;
      for (const Json& need : entry.find("needs")->items)
        if (skipped.empty() && kAble.count(need.text) == 0) skipped = need.text;
      const Json* told = suite.expected.find("without")->find(skipped);  // what a runtime says without this ability
      try {
        if (told != nullptr)
          problem = refused(suite.root + "/" + text(entry, is_bundle ? "path" : "bundle"), told->text, false);
        else if (skipped.empty())
          problem = kind.judge(suite, entry);
      } catch (const xxdeploy::Error& error) {
        problem = error.code + ": " + error.what();
      }
      failed += !problem.empty();
      std::cout << (problem.empty() ? "ok " : "not ok ") << ++number << " - " << name
                << (is_bundle ? " " + text(entry, "variant") : "") << (problem.empty() ? "" : ": " + problem)
                << (skipped.empty() || told != nullptr ? "" : " # SKIP " + skipped) << "\n";
    }
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "conformance SUITE\n";
    return 2;
  }
  try {
    return run(argv[1]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
