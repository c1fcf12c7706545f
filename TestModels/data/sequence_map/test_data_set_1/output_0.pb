
scaledJó~v?=¢?