// Tensors: sizes of packed types, overflow, borrowed memory.

import ApusTensor
import Testing

@Suite struct TensorTests {
  @Test func packedSizes() {
    #expect(DataType.int4.byteCount(elements: 3) == 2)
    #expect(DataType.uint2.byteCount(elements: 5) == 2)
    #expect(DataType.float6e2m3.byteCount(elements: 4) == 3)
    #expect(DataType.float32.byteCount(elements: Int.max) == nil)
  }

  @Test func elementCounts() {
    #expect(Shape([]).checkedElementCount == 1)
    #expect(Shape([3, 0, Int.max, Int.max]).checkedElementCount == nil)
    #expect(Shape([3, 0, 5]).checkedElementCount == 0)
    #expect(Shape([2, -1]).checkedElementCount == nil)
    #expect(Shape([2, 3, 4]).strides == [12, 4, 1])
  }

  @Test func elementsOfTheRightTypeOnly() {
    let tensor = Tensor([1, 2, 3] as [Float])
    #expect(tensor.elements(as: Double.self) == nil)
    #expect(tensor.elements(as: Float.self) == [1, 2, 3])
    #expect(Tensor([true, false]).integers == [1, 0])
  }

  @Test func bfloat16Rounding() {
    #expect(BFloat16(1.0 + 0x1p-9).float == 1)
    #expect(BFloat16(1.0 + 0x1.8p-8).float == 1 + 0x1p-7)
    #expect(BFloat16(Float.nan).float.isNaN)
    #expect(BFloat16(Float.greatestFiniteMagnitude).float == .infinity)
  }
}
