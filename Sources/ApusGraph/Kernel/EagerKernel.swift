// Kernels that work on whole values: data-dependent shapes, strings, containers, control flow.

import ApusTensor

/// A kernel that gets its inputs as values and returns its outputs as values, which it allocates itself.
package protocol EagerKernel: Sendable {
  /// One element for each input of the node (nil: absent) and, in the result, one for each output (nil: not wanted).
  func execute(_ inputs: [Value?], _ context: any EagerContext) throws(OperatorError) -> [Value?]
}

struct ClosureEagerKernel: EagerKernel {
  let body: @Sendable ([Value?], any EagerContext) throws(OperatorError) -> [Value?]
  func execute(_ inputs: [Value?], _ context: any EagerContext) throws(OperatorError) -> [Value?] {
    try body(inputs, context)
  }
}

/// What the executor offers to an eager kernel.
package protocol EagerContext {
  /// The number of outputs of the node, and which of them are wanted.
  var wantedOutputs: [Bool] { get }
  /// Runs the subgraph that the attribute `name` holds. The captured values are supplied by the executor.
  /// The inputs with the numbers `donated` are taken out of the array; the run may write over those that nothing else
  /// refers to.
  func run(subgraph name: String, inputs: inout [Value], donating donated: [Int]) throws(OperatorError) -> [Value]
  /// Runs the subgraph that the attribute `name` holds for iteration after iteration. nil, and nothing has run, where
  /// the executor has no better way than to run them one by one.
  func run(subgraph name: String, _ iterations: Iterations) throws(OperatorError) -> IterationResults?
  /// Calls `body` for every part, on the worker threads where there are some.
  func parallel(parts: Int, _ body: (Int) -> Void)
  /// The memory and the time of the run.
  var allowance: Allowance { get }
}

extension EagerContext {
  package func run(subgraph name: String, _ iterations: Iterations) throws(OperatorError) -> IterationResults? { nil }

  /// Runs the subgraph that the attribute `name` holds, on inputs that stay as they are.
  package func run(subgraph name: String, inputs: [Value]) throws(OperatorError) -> [Value] {
    var inputs = inputs
    return try run(subgraph: name, inputs: &inputs, donating: [])
  }

  package func isWanted(_ output: Int) -> Bool { output < wantedOutputs.count && wantedOutputs[output] }

  /// Throws if the run was cancelled, its time is over, or `bytes` more would break the memory limit.
  package func check(allocating bytes: Int) throws(OperatorError) { try allowance.check(allocating: bytes) }

  /// Throws if `count` objects of `bytes` each would break the memory limit.
  package func check(allocating count: Int, of bytes: Int) throws(OperatorError) {
    let (total, overflow) = count.multipliedReportingOverflow(by: bytes)
    if overflow {
      throw OperatorError(.limit, "\(count) items of \(bytes) bytes are more than there can be memory for")
    }
    try allowance.check(allocating: total)
  }

  /// A new tensor within the limits of the run.
  package func allocate(_ dataType: DataType, _ shape: Shape) throws(OperatorError) -> Tensor {
    try allowance.allocate(dataType, shape)
  }

  /// A tensor of strings that is charged to the run. `strings` must be as many as `shape` has.
  package func tensor(strings: [String], shape: Shape) throws(OperatorError) -> Tensor {
    let tensor = Tensor(strings: strings, shape: shape)
    try allowance.charge(.tensor(tensor))
    return tensor
  }
}

/// A context without threads and subgraphs: constant folding and tests.
package struct SerialEagerContext: EagerContext {
  package let wantedOutputs: [Bool]
  package let allowance: Allowance

  package init(wantedOutputs: [Bool], allowance: Allowance = .unlimited) {
    self.wantedOutputs = wantedOutputs
    self.allowance = allowance
  }

  package func run(
    subgraph name: String, inputs: inout [Value], donating donated: [Int]
  ) throws(OperatorError) -> [Value] {
    throw .unsupported("subgraph \(name) cannot run here")
  }
  package func parallel(parts: Int, _ body: (Int) -> Void) {
    for part in 0..<max(parts, 0) {
      if allowance.cancellation?.isCancelled ?? false { return }
      body(part)
    }
  }
}

extension [Value?] {
  /// The tensor at a position, or an error that says what is there.
  package func tensor(_ index: Int) throws(OperatorError) -> Tensor {
    guard index < count, let value = self[index] else { throw .mismatch("input \(index) is missing") }
    guard let tensor = value.tensor else { throw .mismatch("input \(index) is \(value.type); expected a tensor") }
    return tensor
  }

  package func optionalTensor(_ index: Int) -> Tensor? { index < count ? self[index]?.tensor : nil }

  package func sequence(_ index: Int) throws(OperatorError) -> (elements: [Value], elementType: ValueType) {
    guard index < count, case .sequence(let elements, let type)? = self[index] else {
      throw .mismatch(
        "input \(index) is \(index < count ? self[index]?.type.description ?? "absent" : "absent"); expected a sequence"
      )
    }
    return (elements, type)
  }
}
