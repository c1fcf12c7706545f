// What some work may use: the memory and the time of one run, or of the loading of one model.

import ApusTensor

/// The memory and the time that a piece of work shares with everything else that belongs to the same run, or to the
/// same loading. Copies share both.
package struct Allowance: Sendable {
  /// nil: as much as the system has.
  package let memory: MemoryAccount?
  /// nil: as long as it takes.
  package let cancellation: CancellationFlag?
  /// Whose time it is, for the error of work that took too long.
  private let purpose: Purpose

  private enum Purpose { case run, loading }

  private init(memory: MemoryAccount?, cancellation: CancellationFlag?, purpose: Purpose) {
    (self.memory, self.cancellation, self.purpose) = (memory, cancellation, purpose)
  }

  /// For tests and for work of constant size.
  package static let unlimited = Allowance(memory: nil, cancellation: nil, purpose: .run)

  /// For a run.
  package static func run(memory: MemoryAccount?, cancellation: CancellationFlag?) -> Allowance {
    Allowance(memory: memory, cancellation: cancellation, purpose: .run)
  }

  /// For the loading of a model.
  package static func loading(memory: MemoryAccount?, cancellation: CancellationFlag?) -> Allowance {
    Allowance(memory: memory, cancellation: cancellation, purpose: .loading)
  }

  /// The same time with another account.
  package func charging(_ memory: MemoryAccount) -> Allowance {
    Allowance(memory: memory, cancellation: cancellation, purpose: purpose)
  }

  /// Throws if the work was cancelled or its time is over.
  package func checkTime() throws(OperatorError) {
    if let cancellation, cancellation.isCancelled { throw purpose == .run ? .cancelled : .late }
  }

  /// Throws like `checkTime`, and if `bytes` more would be too many.
  package func check(allocating bytes: Int) throws(OperatorError) {
    try checkTime()
    do throws(TensorError) {
      try memory?.check(bytes)
    } catch {
      throw OperatorError(error)
    }
  }

  /// Charges working memory of which one block serves step after step; see `MemoryAccount.chargeWorkspace`.
  package func chargeWorkspace(_ bytes: Int) throws(OperatorError) {
    do throws(TensorError) {
      try memory?.chargeWorkspace(bytes)
    } catch {
      throw OperatorError(error)
    }
  }

  /// A new tensor, uninitialised.
  package func allocate(_ dataType: DataType, _ shape: Shape) throws(OperatorError) -> Tensor {
    try checkTime()
    do throws(TensorError) {
      return try Tensor(uninitialized: dataType, shape: shape, account: memory)
    } catch {
      throw OperatorError(error)
    }
  }

  /// A new block, uninitialised. `isFilled`: all of it is written next.
  package func allocate(byteCount: Int, isFilled: Bool = false) throws(OperatorError) -> TensorStorage {
    try checkTime()
    do throws(TensorError) {
      return try TensorStorage(byteCount: byteCount, account: memory, isFilled: isFilled)
    } catch {
      throw OperatorError(error)
    }
  }

  /// The tensor itself, its bytes read, if its first element lies at a multiple of `alignment`; else a copy.
  package func aligned(_ tensor: Tensor, to alignment: Int) throws(OperatorError) -> Tensor {
    try checkTime()
    do throws(TensorError) {
      try tensor.storage.load()
      return tensor.isAligned(to: alignment) ? tensor : try tensor.copied(account: memory)
    } catch {
      throw OperatorError(error)
    }
  }

  /// Charges the blocks of a value that nobody has charged yet.
  package func charge(_ value: Value) throws(OperatorError) {
    guard let memory else { return }
    do throws(TensorError) {
      try value.charge(to: memory)
    } catch {
      throw OperatorError(error)
    }
  }
}

extension Value {
  /// Bytes of an element of a container beside those of its tensor.
  private static let elementOverhead = 64

  fileprivate func charge(to account: MemoryAccount) throws(TensorError) {
    switch self {
    case .tensor(let tensor): try tensor.storage.charge(to: account)
    // Elements were values before, and charged then.
    case .sequence(let elements, _): try account.check(elements.count * Value.elementOverhead)
    case .optional(let element, _): try element?.charge(to: account)
    case .map(let map):
      try map.keys.storage.charge(to: account)
      try account.check(map.values.count * Value.elementOverhead)
    }
  }
}

extension OperatorError {
  /// The run was cancelled or its time was over.
  package static let cancelled = OperatorError(.cancelled, "the run was cancelled or its time was over")

  /// The time to load a model was over.
  package static let late = OperatorError(
    .limit, "loading the model takes longer than the limit maximumLoadSeconds allows",
    remedy: "Raise the limit, or do without passes")

  /// The same, as what goes wrong with a node.
  package init(_ error: TensorError) {
    let code: Code = error.code == .memory ? .limit : .invalidInput
    self.init(code, error.message, remedy: error.remedy)
  }
}
