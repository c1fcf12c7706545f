// Samples of a data set, one after the other: memory holds those that run, not those that there are.

import Apus
import ApusFormats
import ApusGraph
import ApusOperators
import ArgumentParser

/// The inputs of one run: a sample, or as many as run together.
struct Sample {
  /// One a sample: the file, and where in it.
  var names: [String]
  var inputs: [String: Value]
  /// One a sample; nil where nothing is known.
  var labels: [SampleLabel?]
  /// True for the first sample of a file.
  var startsFile: Bool

  var name: String { names[0] }
  var label: SampleLabel? { labels[0] }
  var count: Int { names.count }
}

/// Reads samples in their order, or in one drawn by a seed. Only names and numbers of all are kept.
struct Samples {
  /// The samples that `next` gives in all.
  let count: Int
  /// The classes by number; empty if nobody names them.
  var classNames: [String] { reader.classNames }
  /// What the options give for every sample.
  var constants: [String: Value] { reader.constants }

  private var reader: SampleReader
  private let sources: [SampleSource]
  /// The number of the first value of each source, and of all.
  private let starts: [Int]
  /// The values in the order in which they are read; nil: as they lie.
  private let order: [Int]?
  private let batch: Int
  private var position = 0
  private var given = 0

  /// - Parameters:
  ///   - paths: files and folders; `NAME=PATH` where they are for one of several inputs.
  ///   - option: what the paths were named by, for messages.
  init(_ paths: [String], option: String, arguments: SampleArguments, for targets: InputTargets) throws {
    reader = try SampleReader(paths, option: option, arguments, targets)
    sources = try reader.countedSources()
    starts = sources.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.count) }
    let samples = sources.reduce(0) { $0 + $1.count * $1.rows }
    if samples == 0 { throw InputError("\(option): there are no samples in \(paths.joined(separator: ", "))") }
    try reader.checkLabels(count: samples)
    order =
      arguments.shuffle
      ? Self.shuffled(sources, starts, seed: arguments.inputs.seed, byFile: !arguments.feed.isEmpty) : nil
    count = min(samples, arguments.limit ?? samples)
    batch = arguments.batch
  }

  private static func shuffled(_ sources: [SampleSource], _ starts: [Int], seed: UInt64, byFile: Bool) -> [Int] {
    var generator = SplitMix64(seed: seed)
    if !byFile { return (0..<(starts.last ?? 0)).shuffled(using: &generator) }
    return sources.indices.shuffled(using: &generator).flatMap { Array(starts[$0]..<starts[$0 + 1]) }
  }

  /// The next sample, or as many as run together; nil at the end.
  mutating func next() throws -> Sample? {
    guard given < count, var sample = try nextValue() else { return nil }
    var more: [Sample] = []
    while sample.count + more.count < batch, given < count, let other = try nextValue() { more.append(other) }
    if !more.isEmpty { sample = try reader.joined([sample] + more) }
    return sample
  }

  private mutating func nextValue() throws -> Sample? {
    guard position < starts[starts.count - 1] else { return nil }
    let value = order?[position] ?? position
    position += 1
    // The last source that begins at the value or before it.
    var (low, high) = (0, sources.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if starts[middle] <= value { low = middle } else { high = middle }
    }
    // Sources without values begin where the next one does.
    while starts[low + 1] <= value { low += 1 }
    let sample = try reader.sample(sources[low], number: low, index: value - starts[low])
    given += sample.count
    return sample
  }
}
