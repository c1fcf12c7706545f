// apus inspect: what is in a file, whatever its container, without running anything of it.

import Apus
import ApusFormats
import ArgumentParser

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Shows what a container of files or tensors holds: zip, .npz, .npy, gzip, safetensors.",
    discussion: "Names, types, shapes and sizes; nothing of the file is executed or unpacked to a disk.")

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
  }

  private func show(_ entries: [Inspection.Entry], indentation: String) throws {
    for entry in entries {
      var parts: [String] = []
      if let type = entry.type, let shape = entry.shape {
        parts.append(type + "[" + shape.map(String.init).joined(separator: ", ") + "]")
      } else {
        parts.append(entry.kind)
      }
      parts.append("\(entry.bytes) bytes" + (entry.packedBytes.map { ", \($0) packed" } ?? ""))
      if let note = entry.note { parts.append("(\(note.printableMessage()))") }
      try Console.print("\(indentation)\(entry.name.printable())  " + parts.joined(separator: "  "))
      try show(entry.entries ?? [], indentation: indentation + "  ")
    }
  }
}
