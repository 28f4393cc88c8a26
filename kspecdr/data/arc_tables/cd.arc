# Cadmium: air wavelength (Angstrom), relative intensity, label
# Wavelengths: observed lines of the NIST Atomic Spectra Database (Kramida, Ralchenko, Reader and NIST ASD Team,
# https://physics.nist.gov/asd, Cd I), put from vacuum into standard air by Ciddor 1996 (Applied Optics 35, 1566).
# Intensities: as seen on the K-SPEC IsoPlane (hbahk/kspecdr line lists, MIT licence) for its unblended lines; for the
# others the intensity of the database, scaled by wavelength block to the median ratio of the lines that both have.
# The strongest line has intensity 1000; other lamps have scales of their own.
  2508.9077          1  label=Cd
  2544.6129          5  label=Cd
  2553.4646        2.5  label=Cd
  2565.7893        0.3  label=Cd
  2580.1062          5  label=Cd
  2584.8704        0.3  label=Cd
  2592.0257          3  label=Cd
  2628.9786          5  label=Cd
  2632.1901          4  label=Cd
  2639.4196        7.5  label=Cd
  2677.5397         10  label=Cd
  2677.7484        2.5  label=Cd
  2712.5048        7.5  label=Cd
  2733.8199          5  label=Cd
  2763.8935         10  label=Cd
  2774.9585          5  label=Cd
  2836.8999         20  label=Cd
  2868.1799         10  label=Cd
  2880.7670         20  label=Cd
  2980.6204        100  label=Cd
  2981.3625         20  label=Cd
  2981.8537          5  label=Cd
  3080.8223         15  label=Cd
  3082.5934          3  label=Cd
  3133.1666         20  label=Cd
  3252.5240         30  label=Cd
  3261.0547         30  label=Cd
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
 11654.8094        6.8  label=Cd
