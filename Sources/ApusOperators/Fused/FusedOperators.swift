// The list of the engine's own operators: one line an operator.

import ApusGraph

let fusedOperators: [any EngineOperator] = [
  FusedAttention(),
  FusedGemm(),
  ChannelsLastConv(),
  ConvTranspose(channelsLast: true),
  QLinearConv(channelsLast: true),
  ChannelsLastPool(.maximum),
  ChannelsLastPool(.mean),
  ChannelsLastGlobalAveragePool(),
]
