// The options that say what of a model becomes integers, and how.

import Apus
import ApusCompression
import ArgumentParser

struct QuantizationArguments: ParsableArguments {
  @Flag(name: .customLong("static"), help: "Find the scales of activations from samples. [default with --calibrate]")
  var isStatic = false

  @Flag(help: "Find the scales of activations in each run: needs no samples. For products of matrices.")
  var dynamic = false

  @Option(help: "The type of activations: int8, uint8, int16, uint16.")
  var activations: QuantizedType?

  @Flag(help: "Zero in the middle of the integers of activations.")
  var symmetric = false

  @Flag(help: "A zero point for weights too, in the place of ranges that lie evenly around zero.")
  var asymmetricWeights = false

  @Flag(help: "One scale for all weights of a node, in the place of one for each output channel.")
  var perTensor = false

  @Option(help: "How the range of an activation follows from the samples: minmax, average, entropy, percentile, mse.")
  var range = "minmax"

  @Option(
    parsing: .unconditional,
    help: "The percentage of the elements inside of the range, for --range percentile. [default: 99.99]")
  var percentile: Double?

  @Option(help: "What the model is for: any, avx2 (weights of 7 bits), vnni, neon, tensorrt.")
  var target = QuantizationOptions.Target.any

  @Option(
    help: "The form of the file: qdq, operators on floats between changes of type; or qoperator, operators on integers."
  )
  var format = QuantizationOptions.Format.qdq

  @Option(
    help: """
      A JSON or YAML file with ranges or types of single values: {"NAME": {"low": -1, "high": 1, "type": "int8"}}.
      """,
    completion: .file(extensions: ["json", "yaml", "yml"]))
  var overrides: String?

  @Flag(help: "Share out the magnitudes of channels between neighbouring convolutions first.")
  var equalize = false

  @Flag(help: "Take the mean error of each output channel out of its bias.")
  var correctBias = false

  @Flag(
    help: """
      Round weights up or down as the error of the products on the samples says (AdaRound), where samples that this \
      was not fitted to agree. For --static with weights of 8 bits or less.
      """)
  var adaround = false

  @Option(
    parsing: .unconditional,
    help: "Move this share, from 0 to 1, of the magnitudes of activations into the weights that follow (SmoothQuant).")
  var smooth: Float?

  func validate() throws {
    _ = try rangeMethod()
    if percentile != nil, range != "percentile" {
      throw ValidationError("--percentile is of no use with --range \(range); expected --range percentile")
    }
    if asymmetricWeights, target == .tensorrt {
      throw ValidationError("--asymmetric-weights: TensorRT takes weights without zero points only")
    }
    if let smooth, !(smooth >= 0 && smooth <= 1) {
      throw ValidationError("--smooth is \(smooth); expected a number from 0 to 1")
    }
    if let activations, activations.bits == 4 {
      throw ValidationError("--activations \(activations.rawValue): expected int8, uint8, int16 or uint16")
    }
    if let activations, let text = target.refusal(ofActivations: activations) { throw ValidationError(text) }
    if dynamic {
      let unused: [(Bool, String)] = [
        (activations != nil, "--activations"), (symmetric, "--symmetric"), (range != "minmax", "--range"),
        (equalize, "--equalize"), (correctBias, "--correct-bias"), (adaround, "--adaround"),
        (format == .qoperator, "--format"), (overrides != nil, "--overrides"),
      ]
      if let (_, option) = unused.first(where: \.0) {
        throw ValidationError("\(option) is of no use with --dynamic, whose activations are uint8 and weights 8 bits")
      }
    }
  }

  /// What was said, but for what there is to be made, beside the names of the options.
  var given: [(Bool, String)] {
    [
      (activations != nil, "--activations"), (symmetric, "--symmetric"), (asymmetricWeights, "--asymmetric-weights"),
      (perTensor, "--per-tensor"), (range != "minmax", "--range"), (percentile != nil, "--percentile"),
      (target != .any, "--target"),
      (format != .qdq, "--format"), (overrides != nil, "--overrides"), (equalize, "--equalize"),
      (correctBias, "--correct-bias"), (adaround, "--adaround"), (smooth != nil, "--smooth"),
    ]
  }

  private func rangeMethod() throws -> RangeMethod {
    guard let method = RangeMethod(named: range, percentile: percentile ?? 99.99) else {
      throw ValidationError("--range \(range): expected one of \(RangeMethod.names.joined(separator: ", "))")
    }
    if let percentile, !(percentile > 50 && percentile <= 100) {
      throw ValidationError("--percentile is \(percentile); expected a number above 50, at most 100")
    }
    return method
  }

  /// - Parameters:
  ///   - weights: the type of weights, if it was said.
  ///   - selection: the nodes that are quantized.
  func options(weights: QuantizedType?, _ selection: NodeSelection) throws -> QuantizationOptions {
    var options = QuantizationOptions()
    options.method = dynamic ? .dynamic : .static
    (options.target, options.format) = (target, format)
    options.activations = activations ?? options.activations
    options.weights = weights ?? options.weights
    options.hasSymmetricActivations = symmetric
    options.hasSymmetricWeights = !asymmetricWeights
    options.isPerChannel = !perTensor
    options.range = try rangeMethod()
    options.selection = selection
    if let overrides { options.overrides = try OverridesFile.read(overrides) }
    (options.equalizesLayers, options.correctsBiases, options.smoothing) = (equalize, correctBias, smooth)
    options.roundsAdaptively = adaround
    return options
  }
}

extension QuantizedType: ExpressibleByArgument {}
extension QuantizationOptions.Target: ExpressibleByArgument {}
extension QuantizationOptions.Format: ExpressibleByArgument {}
