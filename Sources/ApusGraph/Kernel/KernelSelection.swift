// Which candidates are taken, and what is known of a choice afterwards.

import Synchronization

/// Which candidates are taken.
package enum KernelSelection: Sendable, Hashable {
  /// Of those that apply the cheapest; of equal ones the last.
  case cheapest
  /// The first of each choice.
  case plain
  /// The one of this name wherever there is one and it applies; otherwise the cheapest.
  case named(String)

  /// What holds for kernels that are prepared and planned on this thread.
  @TaskLocal package static var current = KernelSelection.cheapest

  /// True if only plain kernels are wanted, so that nothing need be packed.
  package var isPlain: Bool { self == .plain || self == .named("plain") }
}

/// The candidates of one choice, and which was taken.
package struct KernelChoice: Sendable, Hashable {
  package struct Opinion: Sendable, Hashable {
    package let candidate: String
    package let appraisal: Appraisal
  }

  /// The name of the choice.
  package let point: String
  package let opinions: [Opinion]
  package let taken: String
}

/// Notes the choices that are made.
package final class KernelChoices: Sendable {
  private let choices = Mutex<[KernelChoice]>([])

  /// Who wants to know of the choices that are made on this thread; nil: nobody.
  @TaskLocal package static var current: KernelChoices?

  package init() {}

  package var all: [KernelChoice] { choices.withLock { $0 } }

  package func note(_ choice: KernelChoice) { choices.withLock { $0.append(choice) } }

  /// Calls `body` and notes the choices that it makes.
  package func noting<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    try KernelScope(selection: KernelSelection.current, choices: self).run(body)
  }
}

/// The selection of a thread and whether its choices are noted, to take them to another.
package struct KernelScope: Sendable {
  package let selection: KernelSelection
  package let choices: KernelChoices?

  package init(selection: KernelSelection, choices: KernelChoices?) {
    (self.selection, self.choices) = (selection, choices)
  }

  /// That of this thread.
  package static var current: KernelScope {
    KernelScope(selection: KernelSelection.current, choices: KernelChoices.current)
  }

  /// Calls `body` under the selection.
  package func run<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    if selection == .cheapest, choices == nil { return try body() }
    return try KernelSelection.$current.withValue(selection) {
      KernelChoices.$current.withValue(choices) {
        Swift.Result { () throws(Failure) in try body() }
      }
    }.get()
  }
}
