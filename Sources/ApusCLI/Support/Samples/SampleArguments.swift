// What is said of samples on the command line, beside where they lie.

import ArgumentParser

/// How samples are read, for every command that reads many. The options of `InputArguments` say how pictures and sound
/// become numbers, and give inputs that are the same for all samples.
struct SampleArguments: ParsableArguments {
  @OptionGroup var inputs: InputArguments

  @Option(
    help: """
      The names of the classes, one a line; or what is true of the samples: .npy, one entry a sample, in order, or \
      .json, boxes as COCO has them. [default: `labels` in the model's metadata; the folders that samples lie in]
      """,
    completion: .file(extensions: ["txt", "npy", "json"]))
  var labels: String?

  @Option(help: "The array of an archive, or the column of a table, that is true. [default: label, labels or y]")
  var labelArray: String?

  @Option(parsing: .unconditional, help: "Samples that run together, where the model's first dimension is symbolic.")
  var batch = 1

  @Option(parsing: .unconditional, help: "Read so many samples at most.")
  var limit: Int?

  @Flag(help: "Read the samples in an order drawn by --seed; with --feed, the files.")
  var shuffle = false

  @Option(parsing: .unconditional, help: "Cut sound into pieces of so many samples.")
  var window: Int?

  @Option(
    parsing: .unconditional, help: "From the beginning of a piece of sound to that of the next. [default: --window]")
  var hop: Int?

  @Option(parsing: .unconditional, help: "Zeros before the beginning of a sound that is cut.")
  var lead = 0

  @Option(
    help: """
      OUTPUT=INPUT: what an output is, the input is for the next sample; at the beginning of a file it is as --input \
      gives it, or zeros. May be repeated.
      """)
  var feed: [String] = []

  func validate() throws {
    try OptionValues.check(batch, "--batch", 1...(1 << 20))
    try OptionValues.check(limit, "--limit", 1...Int.max)
    try OptionValues.check(window, "--window", 1...(1 << 26))
    try OptionValues.check(hop, "--hop", 1...(1 << 26))
    try OptionValues.check(lead, "--lead", 0...(1 << 26))
    if window == nil, hop != nil || lead > 0 { throw ValidationError("--hop and --lead are for --window; give it too") }
    if batch > 1, !feed.isEmpty {
      throw ValidationError("--batch and --feed exclude each other: fed samples run in turn")
    }
  }
}
