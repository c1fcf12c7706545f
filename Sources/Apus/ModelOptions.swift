// What a user can choose when loading and running a model.

@_exported public import ApusTensor

@_exported public import struct ApusContainers.LoadError
@_exported public import struct ApusContainers.LoadLimits
@_exported public import struct ApusContainers.ModelProblem
@_exported public import enum ApusRuntime.RunPriority

/// How a model is loaded and prepared.
public struct ModelOptions: Sendable {
  /// Threads that one run may use, the caller's included. nil: all of the engine's.
  public var threads: Int?
  /// Whose threads the model runs on. nil: those that all models of the process share.
  public var engine: Engine?
  /// How urgent runs are whose options do not say so.
  public var priority = RunPriority.normal
  /// Whether, and how, the graph is rewritten to run faster.
  public var optimization = OptimizationOptions()
  /// Values for symbolic dimensions by name, as in `["batch": 4]`.
  public var dimensions: [String: Int] = [:]
  /// Shapes of inputs by name; every extent a number.
  public var shapes: [String: Shape] = [:]
  /// Intermediate values to return as further outputs, by name.
  public var extraOutputs: [String] = []
  /// Returns every value of the main graph as an output. Switches optimizations off.
  public var returnsAllValues = false
  /// Initializers that are also inputs of the graph and that the caller wants to supply instead.
  public var overridableInitializers: Set<String> = []
  /// Bounds on untrusted files and on runs.
  public var limits = LoadLimits()
  /// Maps the files of the model in place of reading them into memory. Weights that are used as they lie in the file
  /// then take memory only as far as the system finds some, and processes that load the same file share them. In return
  /// nobody may write to the files or make them shorter while the model is loaded: results would change, or runs end
  /// with an error. To replace such a file, write a new one and rename it.
  ///
  /// Compiled models are mapped in any case.
  public var mapsFiles = false
  /// How exactly float32 weights of matrix products are kept. Compiled models keep them as they were compiled.
  public var precision = Precision.float32
  /// Compares all weights of a compiled model with their digests, which reads its whole file. Its structure is compared
  /// in any case.
  public var checksCompiledWeights = false
  /// Keeps constants in memory that all nodes have packed in another form.
  package var keepsConstants = false

  /// How exactly matrix products (MatMul, Gemm, Conv) of a model are computed.
  public enum Precision: String, Sendable, CaseIterable {
    /// In float32, with weights as the file has them.
    case float32 = "f32"
    /// With constant weights rounded to bfloat16, which has 8 significant bits, in half the memory; and the other
    /// operand, too, on machines with instructions for products of bfloat16. Sums are float32.
    case bfloat16 = "bf16"
  }

  public init(threads: Int? = nil) { self.threads = threads }
}

/// Which passes of the optimizer run.
public struct OptimizationOptions: Sendable, Hashable {
  /// False: nodes run as the file has them.
  public var isEnabled = true
  /// Passes to leave out, by name; `apus optimize MODEL` names them.
  public var disabledPasses: Set<String> = []
  /// Stops after that many changes of all passes together; nil: all are made. For finding the one that is wrong.
  public var stopAfter: Int?
  /// True: only passes that keep to standard operators.
  public var isPortable = false

  public init() {}
  /// No optimization at all.
  public static let none: OptimizationOptions = {
    var options = OptimizationOptions()
    options.isEnabled = false
    return options
  }()
}

/// What one run is allowed.
public struct RunOptions: Sendable {
  /// Seconds after which the run ends with an error, counted from the call. nil: the limit of the model's options.
  public var timeout: Double?
  /// How urgent the run is. nil: what the model's options say.
  public var priority: RunPriority?
  /// Names of the outputs to compute. nil: all. What only others need is not run.
  public var outputs: [String]?

  public init() {}
}
