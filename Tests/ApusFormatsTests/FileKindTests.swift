// Files that are given as models and are none: the error says what they are.

import ApusFormats
import Testing

@Suite struct FileKindTests {
  private func message(_ bytes: [UInt8]) -> String {
    do throws(LoadError) {
      _ = try ONNXReader.load(FileBytes(copying: bytes), registry: StandIn.registry)
      return "loaded"
    } catch {
      return error.message + ". " + error.remedy
    }
  }

  private static let padding = [UInt8](repeating: 0x11, count: 300)

  @Test(
    arguments: [
      (Array("<!DOCTYPE html>\n<html><body>404</body></html>".utf8), "HTML"),
      (Array("\n  <html lang=\"de\">".utf8), "HTML"),
      (Array("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>".utf8), "XML"),
      (Array("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n".utf8), "git lfs pull"),
      (
        Array("../.git/annex/objects/xx/yy/MD5E-s1--0.onnx/MD5E-s1--0.onnx\n/annex/objects/MD5E-s1\n".utf8), "git-annex"
      ),
      (Array("node {\n  name: \"x\"\n  op: \"Placeholder\"\n}\n".utf8), "TensorFlow"),
      (Array("{\"error\": \"not found\"}".utf8), "JSON"),
      (Array("Entry not found".utf8), "a text"),
      (Array("PK\u{3}\u{4}".utf8) + padding + Array("archive/data.pkl".utf8), "PyTorch"),
      (Array("PK\u{3}\u{4}".utf8) + padding + Array("arr_0.npy".utf8), "npz"),
      (Array("PK\u{3}\u{4}".utf8) + padding, "zip"),
      ([0x80, 0x02, 0x8A, 0x0A, 0x6C] + padding, "pickle"),
      ([0x10, 0, 0, 0, 0, 0, 0, 0] + Array("{\"a\":{\"dtype\":1}".utf8), "safetensors"),
      ([0x18, 0, 0, 0] + Array("ORTM".utf8) + padding, "ONNX Runtime's own format"),
      ([0x1C, 0, 0, 0] + Array("TFL3".utf8) + padding, "TensorFlow Lite"),
      ([0x89] + Array("HDF\r\n".utf8) + [0x1A, 0x0A] + padding, "HDF5"),
      (Array("GGUF".utf8) + padding, "GGUF"),
      ([0x93] + Array("NUMPY".utf8) + padding, "NumPy"),
      ([0x1F, 0x8B, 8, 0] + padding, "gzip"),
      ([UInt8](repeating: 0, count: 4096), "zeros"),
      (graphDef, "GraphDef"),
      (savedModel, "SavedModel"),
      ([], "empty"),
    ] as [([UInt8], String)])
  func isNamed(_ bytes: [UInt8], _ part: String) {
    let found = message(bytes)
    #expect(found.hasPrefix("an ONNX model was expected; ") && found.contains(part), "\(found)")
  }

  /// A node with its name and operation in the first field.
  private static let graphDef = Wire.data(1, Wire.text(1, "input") + Wire.text(2, "Placeholder")) + Wire.int(4, 24)
  private static let savedModel = Wire.int(1, 1) + Wire.data(2, Wire.text(3, "serving_default") + [0xFF, 0xFE])

  /// What is an ONNX model, broken, stays one: the error says what is wrong in it.
  @Test func brokenModels() {
    let model = Wire.int(1, 8) + Wire.text(2, "pytorch")
    #expect(message(model).contains("no graph"))
    #expect(!message(model + [0x3A, 0x7F]).contains("this is a"))
  }
}
