// Gather, GatherElements, GatherND: every type, negative and bad indices, views.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct GatherTests {
  @Test(arguments: basicTypes) func gather(_ type: DataType) throws {
    let data = anyTensor(type, [3, 5, 2])
    let picked = [4, 0, -1, -5]
    for indices in [Tensor(picked, shape: [2, 2]), Tensor(picked.map { Int32($0) }, shape: [2, 2])] {
      let result = try runEveryWay(OperatorRun("Gather", attributes: [("axis", .int(1))]), data, indices)[0]
      expectMoved(result, data, shape: [3, 2, 2, 2]) { at in [at[0], (picked[at[1] * 2 + at[2]] + 5) % 5, at[3]] }
    }
  }

  @Test func constantRunsAreViews() throws {
    let data = anyTensor(.float32, [4, 3])
    var run = OperatorRun("Gather")
    run.constantInputs = [1]
    expectMoved(try run(data, Tensor(scalar: -1))[0], data, shape: [3]) { [3, $0[0]] }
    expectMoved(try run(data, Tensor([1, -2]))[0], data, shape: [2, 3]) { [$0[0] + 1, $0[1]] }
    expectMoved(try run(data, Tensor([2, 1]))[0], data, shape: [2, 3]) { [2 - $0[0], $0[1]] }
  }

  @Test(arguments: basicTypes) func gatherElements(_ type: DataType) throws {
    let data = anyTensor(type, [3, 4])
    let rows = [2, 0, -1, 1, -3, 2]
    let byRow = try runEveryWay(OperatorRun("GatherElements"), data, Tensor(rows, shape: [2, 3]))[0]
    expectMoved(byRow, data, shape: [2, 3]) { [(rows[$0[0] * 3 + $0[1]] + 3) % 3, $0[1]] }
    let columns = [3, -4, 1, 1, 0, 2]
    let byColumn = try runEveryWay(
      OperatorRun("GatherElements", attributes: [("axis", .int(-1))]), data, Tensor(columns, shape: [3, 2]))[0]
    expectMoved(byColumn, data, shape: [3, 2]) { [$0[0], (columns[$0[0] * 2 + $0[1]] + 4) % 4] }
  }

  @Test(arguments: basicTypes) func gatherND(_ type: DataType) throws {
    let data = anyTensor(type, [2, 3, 4])
    let tuples = Tensor([0, -1, 1, 0], shape: [2, 2])
    let slices = try runEveryWay(OperatorRun("GatherND"), data, tuples)[0]
    expectMoved(slices, data, shape: [2, 4]) { [[0, 2], [1, 0]][$0[0]] + [$0[1]] }
    let batched = OperatorRun("GatherND", attributes: [("batch_dims", .int(1))])
    let scalars = try runEveryWay(batched, data, Tensor([2, 3, 0, -4], shape: [2, 1, 2]))[0]
    expectMoved(scalars, data, shape: [2, 1]) { $0[0] == 0 ? [0, 2, 3] : [1, 0, 0] }
  }

  @Test func badIndicesAreErrors() {
    let data = anyTensor(.float32, [2, 3])
    for index in [2, -3, Int.min, Int.max] {
      #expect(throws: (any Error).self) { try OperatorRun("Gather")(data, Tensor([0, index])) }
      #expect(throws: (any Error).self) { try OperatorRun("GatherElements")(data, Tensor([index], shape: [1, 1])) }
      #expect(throws: (any Error).self) { try OperatorRun("GatherND")(data, Tensor([index], shape: [1])) }
    }
    #expect(throws: (any Error).self) { try OperatorRun("Gather")(anyTensor(.float32, [0]), Tensor([0])) }
    #expect(throws: (any Error).self) { try OperatorRun("GatherElements")(data, Tensor([0], shape: [1])) }
  }

  @Test func emptyAndLarge() throws {
    let data = anyTensor(.float32, [100, 33])
    #expect(try OperatorRun("Gather")(data, Tensor([Int](), shape: [0]))[0].shape == [0, 33])
    let picked = (0..<2000).map { $0 * 37 % 100 }
    let result = try runEveryWay(OperatorRun("Gather"), data, Tensor(picked))[0]
    expectMoved(result, data, shape: [2000, 33]) { [picked[$0[0]], $0[1]] }
    let elements = (0..<100 * 700).map { $0 * 31 % 33 }
    let lines = try runEveryWay(
      OperatorRun("GatherElements", attributes: [("axis", .int(1))]), data, Tensor(elements, shape: [100, 700]))[0]
    expectMoved(lines, data, shape: [100, 700]) { [$0[0], elements[$0[0] * 700 + $0[1]]] }
  }
}
