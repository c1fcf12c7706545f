// apus inspect: what is in a file, whatever its container, without running anything of it.

import Apus
import ApusFormats
import ArgumentParser

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Shows what a container of files or tensors holds: zip, safetensors, HDF5, PyTorch, …",
    discussion: """
      Names, types, shapes and sizes; attributes of HDF5 files; storages of PyTorch's tensors, and what pickles name \
      of Python's modules; the identifier of a FlatBuffer (.tflite, .ort). Nothing of the file is executed or \
      unpacked to a disk.
      """)

  @Argument(help: "The file, or - for standard input.", completion: .file())
  var file: String

  @Flag(help: "Compare all checksums, which reads everything.")
  var check = false

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let bytes =
      file == "-"
      ? try FileBytes.read(descriptor: 0, name: "standard input", reading: .ranges)
      : try FileBytes.open(path: file, reading: .ranges)
    let inspection = try Inspection(bytes, checks: check)
    if json { return try printJSON(inspection) }
    try Console.print("\(bytes.name.printable()): \(inspection.format), \(inspection.bytes) bytes")
    for (key, value) in inspection.metadata.sorted(by: { $0.key < $1.key }) {
      try Console.print("  \(key.printable()) = \(value.printable())")
    }
    try show(inspection.entries, indentation: "  ")
    for (title, names) in [("names, not looked up", inspection.globals), ("calls, not run", inspection.calls)] {
      guard let names, !names.isEmpty else { continue }
      try Console.print("  \(title): \(names.map { $0.printable() }.joined(separator: ", "))")
    }
  }

  private func show(_ entries: [Inspection.Entry], indentation: String) throws {
    for entry in entries {
      var parts: [String] = []
      if let type = entry.type {
        let shape = entry.shape.map { "[" + $0.map(String.init).joined(separator: ", ") + "]" } ?? ""
        parts.append(type.printable() + shape)
      } else {
        parts.append(entry.kind)
      }
      if let bytes = entry.bytes {
        parts.append("\(bytes) bytes" + (entry.packedBytes.map { ", \($0) packed" } ?? ""))
      }
      if let storage = entry.storage {
        parts.append("storage \(storage.key.printable()) on \(storage.device.printable())")
      }
      if let strides = entry.strides {
        parts.append("strides [" + strides.map(String.init).joined(separator: ", ") + "]")
      }
      if let value = entry.value { parts.append("= " + value.printable()) }
      if let note = entry.note { parts.append("(\(note.printableMessage()))") }
      let name = (entry.kind == "attribute" ? "@" : "") + entry.name.printable()
      try Console.print("\(indentation)\(name)  " + parts.joined(separator: "  "))
      try show(entry.entries ?? [], indentation: indentation + "  ")
    }
  }
}
