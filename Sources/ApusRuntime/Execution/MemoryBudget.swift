// The memory of all models and runs of an engine together: one account, and who has what of it.

import ApusTensor
import Synchronization

/// A limit on what the models of an engine and their runs have in memory at a time: weights, arenas, values.
///
/// Each model has an account of its own under it. What does not fit is refused after the arenas that no run holds, and
/// then plans, were given back, those that were used least recently first.
package final class MemoryBudget: Sendable {
  private let account: MemoryAccount
  private let tenants = Tenants()

  /// - Parameter name: what messages call the limit.
  package init(limit: Int, name: String) {
    account = MemoryAccount(limit: max(limit, 0), name: name, keeper: tenants)
  }

  package var limit: Int { account.limit }

  /// Bytes that are charged at the moment.
  package var inUse: Int { account.inUse }

  /// An account for a model of that name, which is to be loaded.
  package func open(named name: String) -> MemoryAccount {
    let account = MemoryAccount(limit: .max, name: name, parent: account)
    tenants.add(account)
    return account
  }

  /// Tells that the program of an account that `open` made is there, and may be asked for what it does not need.
  package func add(_ program: Program, of account: MemoryAccount) { tenants.add(program, of: account) }
}

/// The models of a budget, as far as they exist.
private final class Tenants: MemoryKeeper {
  private struct Tenant: Sendable {
    /// Lives as long as any block that was charged to it, which may be longer than the model.
    weak let account: MemoryAccount?
    weak let program: Program?
  }

  private let list = Mutex<[Tenant]>([])

  func add(_ account: MemoryAccount) {
    list.withLock { list in
      list.removeAll { $0.account == nil }
      list.append(Tenant(account: account, program: nil))
    }
  }

  func add(_ program: Program, of account: MemoryAccount) {
    list.withLock { list in
      list.removeAll { $0.account == nil || $0.account === account }
      list.append(Tenant(account: account, program: program))
    }
  }

  func makeRoom(_ bytes: Int) -> Bool {
    let programs = list.withLock { $0.compactMap(\.program) }.sorted { $0.leases.lastUse < $1.leases.lastUse }
    var freed = 0
    for program in programs {
      freed += program.leases.giveBack(bytes - freed)
      if freed >= bytes { return true }
    }
    if freed > 0 { return true }
    // Plans hold values that were computed while planning.
    let before = inUse
    for program in programs { program.releaseMemory() }
    return inUse < before
  }

  private var inUse: Int { list.withLock { $0.reduce(0) { $0 + ($1.account?.inUse ?? 0) } } }

  /// Those that have most, the largest first; empty if none has anything.
  var usage: String {
    let accounts = list.withLock { $0.compactMap(\.account) }.filter { $0.inUse > 0 }
    let largest = accounts.map { (name: $0.name, bytes: $0.inUse) }.sorted { $0.bytes > $1.bytes }
    let named = largest.prefix(Self.namesShown).map { "\($0.bytes) by \($0.name)" }
    let others = largest.dropFirst(Self.namesShown).reduce(0) { $0 + $1.bytes }
    let parts = others > 0 ? named + ["\(others) by \(largest.count - Self.namesShown) others"] : named
    return parts.joined(separator: ", ")
  }

  private static let namesShown = 4
}
