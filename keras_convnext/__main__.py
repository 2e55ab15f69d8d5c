from keras_convnext.cli import main

main()
