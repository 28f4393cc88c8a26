# Cadmium: air wavelength (Angstrom), relative intensity, label
# Wavelengths: observed lines of the NIST Atomic Spectra Database (Kramida, Ralchenko, Reader and NIST ASD Team,
# https://physics.nist.gov/asd, Cd I), put from vacuum into standard air by Ciddor 1996 (Applied Optics 35, 1566).
# Intensities: as seen on the K-SPEC IsoPlane (hbahk/kspecdr line lists, MIT licence) for its unblended lines; for the
# others the intensity of the database, scaled by wavelength block to the median ratio of the lines that both have.
# The strongest line has intensity 1000; other lamps have scales of their own.
  3403.6520         80  label=Cd
  3466.1996        100  label=Cd
  3467.6546         80  label=Cd
  3499.9517        2.5  label=Cd
  3610.5077        100  label=Cd
  3612.8728         80  label=Cd
  3614.4528          6  label=Cd
  3649.5584          2  label=Cd
  3981.9256          1  label=Cd
  4306.6718       0.24  label=Cd
  4662.3519       0.24  label=Cd
  4678.1492      344.5  label=Cd
  4799.9123      671.1  label=Cd
  5085.8217       1000  label=Cd
  5154.6604        2.4  label=Cd
  6099.1420        120  label=Cd
  6111.4952         40  label=Cd
  6325.1660         40  label=Cd
  6330.0132         12  label=Cd
  6438.4694      598.3  label=Cd
  6778.1156     0.3157  label=Cd
  7345.6703      6.469  label=Cd
  8200.3088          2  label=Cd
  9292.4500          8  label=Cd
