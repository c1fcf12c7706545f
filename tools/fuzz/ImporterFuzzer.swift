// Reads mutated files of models of every format: each must end in a graph that the checker accepts, or in a typed
// error, in bounded time and memory.

import Apus
import ApusContainers
import ApusFormats
import ApusGraph
import ApusOperators

enum ImporterFuzzer {
  /// The formats of models. The first that tells a seed as its own breaks it; all are read in the same way.
  static let kinds: [ContainerFuzzer.Kind] = [
    kind("tflite", { isMarked($0, "TFL3") }, FlatMutator.mutate),
    kind("ort", { isMarked($0, "ORTM") }, FlatMutator.mutate),
    kind("keras", { isArchive($0, with: "model.weights") }, ArchiveMutator.mutate),
    kind("h5", { HDF5File.isHDF5(ByteView($0)) }, KerasFileMutator.mutate),
    kind("pt2", { isArchive($0, with: "models/") }, ArchiveMutator.mutate),
    kind("torch", { isArchive($0, with: "data.pkl") || TorchCheckpoint.isLegacy(ByteView($0)) }, TorchMutator.mutate),
    kind("textproto", { ModelForm.text($0.span) == .textproto }, TextMutator.mutate),
    kind("json", { ModelForm.text($0.span) == .json }, JSONMutator.mutate),
    kind("onnxtxt", { ModelForm.text($0.span) == .onnxtxt }, TextMutator.mutate),
  ]

  private static func kind(
    _ name: String, _ isKind: @escaping @Sendable ([UInt8]) -> Bool,
    _ mutate: @escaping @Sendable (inout [UInt8], inout SplitMix64) -> Void
  ) -> ContainerFuzzer.Kind {
    ContainerFuzzer.Kind(name: name, isKind: isKind, mutate: mutate) { (file, _) throws(LoadError) in
      try read(file.view().array)
    }
  }

  private static func isMarked(_ bytes: [UInt8], _ mark: String) -> Bool {
    bytes.count > 8 && Array(bytes[4..<8]) == Array(mark.utf8)
  }

  private static func isArchive(_ bytes: [UInt8], with name: String) -> Bool {
    ZipArchive.isZip(bytes.span) && !bytes.places(of: Array(name.utf8)).isEmpty
  }

  /// What becomes of a file.
  static func outcome(_ bytes: [UInt8]) -> String {
    let start = FuzzDriver.now()
    func ending(_ text: String) -> String {
      "\(text) (\(Int((FuzzDriver.now() - start) * 1000)) ms, peak memory \(FuzzDriver.peakMemory()) MB)"
    }
    do throws(LoadError) {
      try read(bytes)
      return ending("read")
    } catch {
      return ending("\(error)")
    }
  }

  /// Bounds within which a mutant ends long before the driver's own.
  private static var limits: LoadLimits {
    var limits = Outcome.limits
    limits.maximumLoadMemory = 256 << 20
    return limits
  }

  /// Reads a model as commands do, and looks at what came of it; kernels are not run. A graph that was read must pass
  /// the checker, and its ONNX form must be read as well.
  private static func read(_ bytes: [UInt8]) throws(LoadError) {
    var options = ModelOptions(threads: 1)
    options.limits = limits
    let source = try ModelReader.read(bytes: bytes, folder: nil, options: options)
    var graph = source.model.graph
    do throws(OperatorError) {
      try GraphVerifier.verify(graph, registry: .standard)
    } catch {
      return ContainerFuzzer.fault("a graph that was read is none: \(error.message)")
    }
    let errors = InferenceDriver(registry: .standard, allowance: .unlimited).infer(&graph)
    if let first = errors.first {
      throw LoadError(first.code == .limit ? .limitExceeded : .malformed, "after reading: \(first.message)")
    }
  }
}
