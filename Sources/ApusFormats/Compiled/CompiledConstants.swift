// Constants around compiled models: stand-ins that tell who reads them, and those that are not there. Owns raw memory.

import ApusTensor

/// Constants while a model is compiled: reading them is noted, packing them is not.
enum WatchedConstants {
  /// A storage with the bytes of `source` at its beginning. Where it is large it is deferred, and pending as long as
  /// nobody has asked for its bytes but to pack them.
  static func storage(_ source: ConstantSource, account: MemoryAccount?) throws(LoadError) -> TensorStorage {
    let tensor = source.tensor
    if source.byteCount <= CompiledFormat.largestSmall || source.isAttribute {
      do throws(TensorError) {
        try tensor.storage.load()
      } catch {
        throw LoadError(error)
      }
      // In bounds: the tensor has the bytes, and is kept alive.
      return TensorStorage(
        base: UnsafeMutableRawPointer(mutating: tensor.base), byteCount: source.byteCount,
        release: { _, _ in withExtendedLifetime(tensor) {} })
    }
    let memory: UnsafeMutableRawBufferPointer
    do throws(TensorError) {
      memory = try AddressRange.reserve(source.byteCount)
    } catch {
      throw LoadError(error)
    }
    let deferred = DeferredBytes(account: account) { offset, buffer in
      if let pending = tensor.storage.deferred, pending.isPending {
        do throws(TensorError) {
          try pending.copy(from: tensor.byteOffset + offset, into: buffer)
          return nil
        } catch {
          return error
        }
      }
      // In bounds: whoever reads a deferred block asks for a part of it, and the tensor has as many bytes.
      buffer.copyMemory(from: UnsafeRawBufferPointer(start: tensor.base + offset, count: buffer.count))
      return nil
    }
    // Not nil: the range was reserved.
    return TensorStorage(base: memory.baseAddress!, byteCount: memory.count, deferred: deferred) { base, byteCount in
      AddressRange.free(UnsafeMutableRawBufferPointer(start: base, count: byteCount))
    }
  }
}

/// Constants that a compiled model has in packed forms only. Whoever reads them finds zeros, and is found out by
/// `CompiledModel.checkAbsent`.
///
/// `@unchecked Sendable`: nobody writes to the zeros.
final class AbsentConstants: @unchecked Sendable {
  private let zeros: UnsafeMutableRawBufferPointer

  /// No constant has more than `largest` bytes.
  init(largest: Int) throws(LoadError) {
    do throws(TensorError) {
      zeros = try AddressRange.reserve(largest)
    } catch {
      throw LoadError(error)
    }
  }

  deinit { AddressRange.free(zeros) }

  func storage(_ byteCount: Int) -> TensorStorage {
    let deferred = DeferredBytes(account: nil) { _, _ in
      TensorError(
        .file, "the compiled model has these weights in another packed form only", remedy: "Compile the model again")
    }
    // Not nil: the range was reserved.
    return TensorStorage(base: zeros.baseAddress!, byteCount: byteCount, deferred: deferred) { _, _ in
      withExtendedLifetime(self) {}
    }
  }
}
