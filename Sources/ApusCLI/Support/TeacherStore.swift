// What a teacher says of samples, as it is stored, and as it is compared with what a student says.

import Apus
import ApusCompression
import ApusFormats
import ApusGraph
import ArgumentParser

/// The outputs of a model for one sample after the other, in an .npz file that grows.
final class TeacherStore {
  private(set) var arrays: [NpzStream.Array] = []
  private let names: [String]
  /// Of one sample: the first axis is that of the samples that run together.
  private let shapes: [Shape]
  /// The names whose softmax is stored too.
  private let soft: [String]
  private let temperature: Double
  private let count: Int
  private var stream: NpzStream
  /// For each name, the samples of which it holds NaN or infinities, from which nothing can be learnt.
  private var faultySamples: [Int]

  /// The arrays follow from the outputs of the first run, of so many samples: `count` of these along the first axis.
  /// Those of `hidden` have no softmax.
  init(
    _ names: [String], hidden: [String], _ first: [String: Value], of samples: Int, count: Int, temperature: Double?,
    path: String
  ) throws {
    self.names = names
    self.temperature = temperature ?? 1
    self.count = count
    var arrays: [NpzStream.Array] = []
    var shapes: [Shape] = []
    var soft: [String] = []
    for name in names {
      guard let tensor = first[name]?.tensor, tensor.dataType != .string else {
        throw InputError("output '\(name.printable())' is no tensor of numbers, which alone can be stored")
      }
      guard let shape = Self.ofOne(tensor.shape, samples) else {
        throw InputError(
          "output '\(name.printable())' of \(samples) samples is \(tensor.shape): its first axis is not that of the "
            + "samples; leave out --batch")
      }
      shapes.append(shape)
      arrays.append(.init(name: name, dataType: tensor.dataType, shape: try Self.stacked(shape, count)))
    }
    for (name, shape) in zip(names, shapes) where temperature != nil && !hidden.contains(name) {
      guard let tensor = first[name]?.tensor, WeightNumbers.types.contains(tensor.dataType), (shape.dims.last ?? 1) > 1
      else { continue }
      soft.append(name)
      arrays.append(.init(name: name + ".soft", dataType: .float32, shape: try Self.stacked(shape, count)))
    }
    (self.arrays, self.shapes, self.soft) = (arrays, shapes, soft)
    faultySamples = names.map { _ in 0 }
    stream = try NpzStream(arrays, to: path)
  }

  private static func stacked(_ shape: Shape, _ count: Int) throws -> Shape {
    let stacked = shape.rank == 0 ? [count] : Shape([shape[0] * count] + shape.dims.dropFirst())
    guard stacked.checkedElementCount != nil else { throw InputError("\(count) samples of \(shape) are too many") }
    return stacked
  }

  /// The shape of one of so many samples along the first axis; nil if they do not lie there.
  private static func ofOne(_ shape: Shape, _ samples: Int) -> Shape? {
    if samples == 1 { return shape }
    guard let extent = shape.dims.first, extent % samples == 0 else { return nil }
    return Shape([extent / samples] + shape.dims.dropFirst())
  }

  func append(_ values: [String: Value], of samples: Int, sample: String) throws {
    for (index, name) in names.enumerated() {
      guard let tensor = values[name]?.tensor, Self.ofOne(tensor.shape, samples) == shapes[index] else {
        throw InputError(
          "output '\(name.printable())' of sample '\(sample.printable())' is "
            + "\(values[name]?.type.description ?? "absent"), that of the first sample \(shapes[index]); "
            + "arrays of one shape are stored"
        )
      }
      try stream.append(tensor, to: index)
      if tensor.dataType.isFloat, !tensor.doubles.allSatisfy(\.isFinite) { faultySamples[index] += 1 }
    }
    for (index, name) in soft.enumerated() {
      guard let tensor = values[name]?.tensor else { continue }
      try stream.append(OutputLoss.softmax(tensor, temperature: temperature), to: names.count + index)
    }
  }

  func commit() throws { try stream.commit() }

  /// What whoever trains on the arrays must know.
  var notes: [String] {
    zip(names, faultySamples).filter { $0.1 > 0 }.map { name, faults in
      "'\(name.printable())' of \(faults) \(faults == 1 ? "run" : "runs") holds numbers that are not finite; a student "
        + "cannot learn from them"
    }
  }
}

/// The losses of a student.
struct TeacherLosses {
  private var losses: [(teacher: String, student: String, loss: OutputLoss)] = []

  /// Outputs are compared by name, or one by one where each model has as many and the names differ.
  init(_ teacher: Model, _ student: Model, _ hidden: [(teacher: String, student: String)], temperature: Double) throws {
    let extra = (Set(hidden.map(\.teacher)), Set(hidden.map(\.student)))
    let (left, right) = (
      teacher.outputs.map(\.name).filter { !extra.0.contains($0) },
      student.outputs.map(\.name).filter { !extra.1.contains($0) }
    )
    var pairs = left.filter { right.contains($0) }.map { ($0, $0) }
    if pairs.isEmpty, left.count == right.count { pairs = Array(zip(left, right)) }
    if pairs.isEmpty {
      throw InputError(
        "no output of the student is one of the teacher: \(right.joined(separator: ", ")) and "
          + left.joined(separator: ", "))
    }
    for (a, b) in pairs + hidden.map({ ($0.teacher, $0.student) }) {
      losses.append((a, b, OutputLoss(name: a, temperature: temperature)))
    }
  }

  mutating func add(_ teacher: [String: Value], _ student: [String: Value]) throws {
    for index in losses.indices {
      guard let a = teacher[losses[index].teacher]?.tensor, let b = student[losses[index].student]?.tensor else {
        throw InputError("'\(losses[index].teacher.printable())' is no tensor of both models")
      }
      try losses[index].loss.add(teacher: a, student: b)
    }
  }

  var reports: [OutputLoss.Report] { losses.map(\.loss.report) }
}
