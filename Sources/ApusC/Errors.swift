// Errors on their way to C: every throwing body ends as a pointer, NULL for success.

import Apus
import CApus
import CApusProcess

/// A call with arguments that it cannot work on.
struct ArgumentError: Error {
  let message: String
  init(_ message: String) { self.message = message }
}

final class ErrorHandle: Handle, Sendable {
  let code: Int32
  let message: CText

  init(code: Int32, _ message: String) { (self.code, self.message) = (code, CText(message)) }

  init(_ error: any Error) {
    switch error {
    case let error as ArgumentError:
      code = Int32(APUS_INVALID_ARGUMENT)
      message = CText(error.message)
    case let error as LoadError:
      code = ErrorHandle.code(of: error)
      message = CText("\(error)")
    case let error as PrepareError:
      code = Int32(APUS_INVALID_MODEL)
      message = CText("\(error)")
    case let error as CompressionError:
      code = ErrorHandle.code(of: error)
      message = CText("\(error)")
    case let error as StoppedByCaller:
      code = Int32(APUS_CANCELLED)
      message = CText("\(error)")
    case let error as RunError:
      code = ErrorHandle.code(of: error)
      message = CText("\(error)")
    default:
      code = Int32(APUS_OTHER)
      message = CText("\(error)")
    }
  }

  private static func code(of error: LoadError) -> Int32 {
    let code =
      switch error.code {
      case .cannotRead: APUS_CANNOT_READ
      case .malformed: APUS_MALFORMED
      case .wrongFormat: APUS_WRONG_FORMAT
      case .limitExceeded: APUS_LIMIT_EXCEEDED
      case .unsupported: APUS_UNSUPPORTED
      case .externalData: APUS_EXTERNAL_DATA
      case .invalidModel: APUS_INVALID_MODEL
      case .invalidEnvironment: APUS_INVALID_ARGUMENT
      default: APUS_OTHER
      }
    return Int32(code)
  }

  private static func code(of error: CompressionError) -> Int32 {
    let code =
      switch error.code {
      case .invalidOption, .invalidFile: APUS_INVALID_ARGUMENT
      case .invalidSample: APUS_INVALID_INPUT
      case .nothingToDo: APUS_NOTHING_TO_DO
      case .targetNotMet: APUS_TARGET_NOT_MET
      case .failedNode: APUS_FAILED_NODE
      case .limitExceeded: APUS_LIMIT_EXCEEDED
      default: APUS_OTHER
      }
    return Int32(code)
  }

  private static func code(of error: RunError) -> Int32 {
    let code =
      switch error.code {
      case .invalidInput: APUS_INVALID_INPUT
      case .failedNode: APUS_FAILED_NODE
      case .limitExceeded: APUS_LIMIT_EXCEEDED
      case .cancelled: APUS_CANCELLED
      case .unsupported: APUS_UNSUPPORTED
      default: APUS_OTHER
      }
    return Int32(code)
  }
}

/// Runs `body`; its error as an owned pointer, NULL if there is none. Every call that computes, allocates or locks goes
/// through here, so that it is sound in a process that was forked.
func attempt(_ body: () throws -> Void) -> OpaquePointer? {
  apus_release_signals()
  return withoutActuallyEscaping(body) { body in
    var call = GuardedCall(body: body)
    let isDone = withUnsafeMutablePointer(to: &call) { apus_fork_guard(GuardedCall.work, $0) }
    return isDone ? call.error : ErrorHandle(code: Int32(APUS_OTHER), forkedDuringCall).owned
  }
}

/// A call on its way through `apus_fork_guard`.
private struct GuardedCall {
  let body: () throws -> Void
  var error: OpaquePointer?

  static let work: @convention(c) (UnsafeMutableRawPointer?) -> Void = { context in
    guard let call = context?.assumingMemoryBound(to: GuardedCall.self) else { return }
    do {
      try call.pointee.body()
    } catch {
      call.pointee.error = ErrorHandle(error).owned
    }
  }
}

/// What is said in the child of a fork that could not wait for the end of a call. One literal, so that nothing has to
/// be initialized for it there.
private let forkedDuringCall = """
  this process was forked while another thread of its parent was in a call of Apus, which may have left locks behind; \
  fork when no run is in progress, or start new processes (multiprocessing: 'spawn' or 'forkserver')
  """

/// Puts an owned pointer to what `body` makes into `result`; NULL if it throws.
func attempt(_ result: UnsafeMutablePointer<OpaquePointer?>?, _ body: () throws -> (any Handle)?) -> OpaquePointer? {
  attempt {
    guard let result else { throw ArgumentError("the place for the result is NULL") }
    result.pointee = nil
    result.pointee = try body()?.owned
  }
}

/// A text that must be there; `what` names the argument.
func text(_ pointer: UnsafePointer<CChar>?, _ what: String) throws(ArgumentError) -> String {
  guard let pointer else { throw ArgumentError("\(what) is NULL") }
  guard let text = String(validatingCString: pointer) else { throw ArgumentError("\(what) is no valid UTF-8") }
  return text
}

@c @implementation
public func apus_error_code(_ error: OpaquePointer?) -> Int32 { ErrorHandle.at(error)?.code ?? 0 }

@c @implementation
public func apus_error_message(_ error: OpaquePointer?) -> UnsafePointer<CChar>? {
  ErrorHandle.at(error)?.message.pointer
}

@c @implementation
public func apus_error_release(_ error: OpaquePointer?) { ErrorHandle.release(error) }
