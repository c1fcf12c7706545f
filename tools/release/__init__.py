"""What tools/install, tools/build-packages and tools/build-wheel share: the build that is handed to others, its
checks, the licences of what is in it, and where its files go."""
