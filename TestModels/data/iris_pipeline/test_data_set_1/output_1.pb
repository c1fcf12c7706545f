2C"setosa"
versicolor"	virginica* J•ð%9JMÁ=JŒ©w?2C"setosa"
versicolor"	virginica* JJ<á;JÇªr?J	,9=2C"setosa"
versicolor"	virginica* J"Ê~?Jîš;JÞ¹Ô32C"setosa"
versicolor"	virginica* JR­8Jr²=J¡¯i?2C"setosa"
versicolor"	virginica* J‡ry?J·¬Ñ<J^Š–5