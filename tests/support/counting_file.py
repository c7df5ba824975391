"""A file for tests of what is read in parts."""

import io


class Counting(io.FileIO):
    """A file that counts what is read of it."""

    num_bytes = 0

    def readinto(self, buffer):
        count = super().readinto(buffer)
        self.num_bytes += count
        return count

    def read(self, size=-1):
        data = super().read(size)
        self.num_bytes += len(data)
        return data
