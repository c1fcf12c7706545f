// Values that are handed on far more often than looked at.

/// A value behind one reference. An error of fifteen words would be copied by every `try` that it may pass, in code
/// that is made for each of them; a reference fits into a register.
package final class Boxed<Content: Sendable>: Sendable {
  package let content: Content

  package init(_ content: Content) { self.content = content }
}
