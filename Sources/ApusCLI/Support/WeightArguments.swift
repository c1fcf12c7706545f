// What a command line says of weights in few bits, and of models in 16 bits.

import Apus
import ApusCompression
import ArgumentParser

/// Options of weights in few bits.
struct WeightArguments: ParsableArguments {
  @Option(
    help: """
      Keep the weights of products, and tables, in this type (int8, int4, int2 …), while all that is computed stays \
      float. With --static or --dynamic: the type of the weights that are multiplied as integers.
      """)
  var weights: WeightQuantizationOptions.ElementType?

  @Option(help: "Elements that share a scale: a power of two from 16 on, or channel for one scale a channel.")
  var block = "32"

  @Option(
    help: """
      How codes are found: rtn (the nearest, with the best scale), hqq (half-quadratic), gptq (each column makes up \
      for the errors of those before), awq (channels of large activations are scaled up). gptq and awq want --calibrate.
      """)
  var method = WeightQuantizationOptions.Method.roundToNearest

  @Option(help: "Write MatMulNBits and GatherBlockQuantized of com.microsoft (nbits), or DequantizeLinear (qdq).")
  var weightFormat = WeightQuantizationOptions.Format.microsoft

  @Flag(inversion: .prefixedNo, help: "Zero points for blocks. [default: for 2 and 4 bits, and unsigned types]")
  var zeroPoints: Bool?

  @Option(
    help: "Another type for weights of nodes, operators or weights of that name, as in 'Gather=int8'. May be repeated.")
  var weightType: [String] = []

  @Flag(inversion: .prefixedNo, help: "Also tables that rows are gathered from.")
  var tables = true

  @Option(parsing: .unconditional, help: "Leave weights of fewer elements in float.")
  var minimumElements = WeightQuantizationOptions().minimumElements

  @Option(parsing: .unconditional, help: "gptq: what is added to the diagonal of X·Xᵀ, as a part of its mean.")
  var damping = WeightQuantizationOptions().damping

  @Flag(help: "gptq: columns of large activations first.")
  var actOrder = false

  @Option(parsing: .unconditional, help: "gptq: sweeps over codes and scales behind it.")
  var sweeps = WeightQuantizationOptions().descentSweeps

  @Option(parsing: .unconditional, help: "The accuracy_level of MatMulNBits: with 4, activations may become 8 bits.")
  var accuracyLevel = 0

  @Option(help: "Only nodes, operators or weights whose names fit the pattern (*, ?). May be repeated.")
  var include: [String] = []

  @Option(help: "No nodes, operators or weights whose names fit the pattern. May be repeated.")
  var exclude: [String] = []

  func validate() throws {
    do throws(CompressionError) {
      try options().check()
    } catch {
      throw ValidationError(error.message)
    }
  }

  /// What was said of weights in few bits only, beside the names of the options.
  var given: [(Bool, String)] {
    let usual = WeightQuantizationOptions()
    return [
      (block != "32", "--block"), (method != .roundToNearest, "--method"),
      (weightFormat != .microsoft, "--weight-format"),
      (zeroPoints != nil, "--zero-points"), (!weightType.isEmpty, "--weight-type"), (!tables, "--no-tables"),
      (minimumElements != usual.minimumElements, "--minimum-elements"), (damping != usual.damping, "--damping"),
      (actOrder, "--act-order"), (sweeps != usual.descentSweeps, "--sweeps"), (accuracyLevel != 0, "--accuracy-level"),
    ]
  }

  func options() throws(CompressionError) -> WeightQuantizationOptions {
    var options = WeightQuantizationOptions()
    if let weights { options.type = weights }
    if block != "channel", Int(block) == nil {
      throw CompressionError(.invalidOption, "--block \(block): expected a power of two from 16 on, or channel")
    }
    options.blockSize = block == "channel" ? nil : Int(block)
    (options.method, options.format, options.usesZeroPoints) = (method, weightFormat, zeroPoints)
    for text in weightType {
      let parts = text.split(separator: "=")
      guard parts.count == 2, let type = WeightQuantizationOptions.ElementType(rawValue: String(parts[1])) else {
        throw CompressionError(.invalidOption, "--weight-type \(text): expected NAME=TYPE, as in 'Gather=int8'")
      }
      options.types.append((String(parts[0]), type))
    }
    (options.includesTables, options.minimumElements) = (tables, minimumElements)
    (options.damping, options.ordersByActivation, options.descentSweeps) = (damping, actOrder, sweeps)
    (options.accuracyLevel, options.include, options.exclude) = (accuracyLevel, include, exclude)
    return options
  }
}

/// Options of models in 16 bits.
struct HalfArguments: ParsableArguments {
  @Flag(help: "Convert the model to float16.")
  var float16 = false

  @Flag(help: "Convert the model to bfloat16.")
  var bfloat16 = false

  @Option(help: "Whether inputs and outputs of the model stay float32.")
  var keepIO = true

  @Flag(inversion: .prefixedNo, help: "Sums of many elements and powers stay in float32.")
  var keepSensitive = true

  @Option(help: "Nodes and operators whose names fit the pattern stay in float32, as with --exclude. May be repeated.")
  var keep: [String] = []

  /// What was said, but for the type, beside the names of the options.
  var given: [(Bool, String)] {
    [(!keepIO, "--keep-io"), (!keepSensitive, "--no-keep-sensitive"), (!keep.isEmpty, "--keep")]
  }

  /// nil if neither is asked for.
  var options: HalfConversionOptions? {
    guard float16 || bfloat16 else { return nil }
    var options = HalfConversionOptions()
    options.type = float16 ? .float16 : .bfloat16
    (options.keepsInterface, options.keepsSensitive, options.keep) = (keepIO, keepSensitive, keep)
    return options
  }
}

extension WeightQuantizationOptions.ElementType: ExpressibleByArgument {}
extension WeightQuantizationOptions.Method: ExpressibleByArgument {}
extension WeightQuantizationOptions.Format: ExpressibleByArgument {}
